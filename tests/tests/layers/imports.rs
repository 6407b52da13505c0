//! Which file imports from which: read from the sources, re-exports followed to where an item is
//! defined, so that no circle hides behind one.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use proc_macro2::{TokenStream, TokenTree};
use syn::{Attribute, Item, ItemMod, UseTree, visit::Visit};

/// A path of modules, from the root of the crate.
type ModulePath = Vec<String>;

/// The modules of a crate, without those that only tests have.
#[derive(Default)]
pub(super) struct Sources {
    modules: BTreeMap<ModulePath, Module>,
}

/// A module: where it stands, and what it names.
#[derive(Default)]
struct Module {
    file: PathBuf,
    /// What it imports or re-exports: the name here, and the path it stands for.
    uses: BTreeMap<String, ModulePath>,
    /// All modules from which everything is imported.
    globs: Vec<ModulePath>,
    /// Every path that its code names and that leads into this crate.
    named: BTreeSet<ModulePath>,
}

impl Sources {
    /// Reads a crate from the folder of its `lib.rs`.
    pub(super) fn read(folder: &Path) -> Self {
        let mut sources = Self::default();
        sources.read_file(folder, Path::new("lib.rs"), Vec::new());
        sources
    }

    fn read_file(&mut self, folder: &Path, file: &Path, path: ModulePath) {
        let text = std::fs::read_to_string(folder.join(file))
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let parsed =
            syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        self.add(folder, file, path, &parsed.items);
    }

    fn add(&mut self, folder: &Path, file: &Path, path: ModulePath, items: &[Item]) {
        let mut module = Module {
            file: file.to_owned(),
            ..Module::default()
        };
        let children: BTreeSet<String> = items
            .iter()
            .filter_map(|item| match item {
                Item::Mod(child) => Some(child.ident.to_string()),
                _ => None,
            })
            .collect();
        let mut below = Vec::new();
        for item in items {
            match item {
                Item::Mod(child) if !is_for_tests(&child.attrs) => below.push(child),
                Item::Mod(_) => {}
                item if is_for_tests(attributes(item)) => {}
                Item::Use(import) => {
                    let mut leaves = Vec::new();
                    flatten(&import.tree, &mut Vec::new(), &mut leaves);
                    for (segments, name) in leaves {
                        let Some(target) = absolute(&path, &children, &segments) else {
                            continue;
                        };
                        module.named.insert(target.clone());
                        match name {
                            Some(name) => drop(module.uses.insert(name, target)),
                            None => module.globs.push(target),
                        }
                    }
                }
                item => {
                    let mut paths = Paths::default();
                    paths.visit_item(item);
                    let found = paths.0.iter();
                    let found =
                        found.filter_map(|path_in| absolute(&path, &BTreeSet::new(), path_in));
                    module.named.extend(found);
                }
            }
        }
        self.modules.insert(path.clone(), module);
        for child in below {
            self.add_child(folder, file, &path, child);
        }
    }

    fn add_child(&mut self, folder: &Path, file: &Path, parent: &ModulePath, child: &ItemMod) {
        let name = child.ident.to_string();
        let path = [parent.as_slice(), std::slice::from_ref(&name)].concat();
        if let Some((_, items)) = &child.content {
            return self.add(folder, file, path, items);
        }
        let directory: PathBuf = parent.iter().collect();
        let alone = directory.join(format!("{name}.rs"));
        let file = match folder.join(&alone).exists() {
            true => alone,
            false => directory.join(&name).join("mod.rs"),
        };
        self.read_file(folder, &file, path);
    }

    /// Every import: the file that imports, and the file that defines what it imports.
    pub(super) fn imports(&self) -> BTreeSet<(PathBuf, PathBuf)> {
        let mut imports = BTreeSet::new();
        for module in self.modules.values() {
            for target in &module.named {
                let Some(defined) = self.file_of(target, &mut BTreeSet::new()) else {
                    continue;
                };
                if defined != module.file {
                    imports.insert((module.file.clone(), defined));
                }
            }
        }
        imports
    }

    /// Every file that was read.
    pub(super) fn files(&self) -> BTreeSet<PathBuf> {
        self.modules.values().map(|m| m.file.clone()).collect()
    }

    /// The file that defines what a path names; none for what is no module of this crate.
    fn file_of(&self, path: &[String], seen: &mut BTreeSet<ModulePath>) -> Option<PathBuf> {
        if !seen.insert(path.to_vec()) {
            return None;
        }
        // The longest part that is a module; what follows is an item of it.
        for length in (0..=path.len()).rev() {
            let Some(module) = self.modules.get(&path[..length]) else {
                continue;
            };
            let Some(item) = path.get(length) else {
                return Some(module.file.clone());
            };
            if let Some(target) = module.uses.get(item) {
                let further = [target.as_slice(), &path[length + 1..]].concat();
                return self
                    .file_of(&further, seen)
                    .or_else(|| Some(module.file.clone()));
            }
            let mut globs = module.globs.iter();
            let through = globs.find_map(|glob| {
                let further = [glob.as_slice(), &path[length..]].concat();
                let file = self.file_of(&further, seen)?;
                (file != module.file).then_some(file)
            });
            // The root defines nothing itself but macros, which every file may name.
            return match through {
                None if length == 0 => None,
                None => Some(module.file.clone()),
                through => through,
            };
        }
        None
    }
}

/// Whether an item exists in tests only.
fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let test = |tokens: TokenStream| tokens.to_string() == "test";
        attribute.path().is_ident("test")
            || attribute.path().is_ident("cfg") && attribute.parse_args().is_ok_and(test)
    })
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(i) => &i.attrs,
        Item::Enum(i) => &i.attrs,
        Item::Fn(i) => &i.attrs,
        Item::Impl(i) => &i.attrs,
        Item::Macro(i) => &i.attrs,
        Item::Static(i) => &i.attrs,
        Item::Struct(i) => &i.attrs,
        Item::Trait(i) => &i.attrs,
        Item::Type(i) => &i.attrs,
        Item::Use(i) => &i.attrs,
        _ => &[],
    }
}

/// A path as it is written, and the name by which it is known here; none for a glob.
type Leaf = (Vec<String>, Option<String>);

/// The leaves of a `use`.
fn flatten(tree: &UseTree, before: &mut Vec<String>, leaves: &mut Vec<Leaf>) {
    match tree {
        UseTree::Path(path) => {
            before.push(path.ident.to_string());
            flatten(&path.tree, before, leaves);
            before.pop();
        }
        UseTree::Group(group) => {
            for tree in &group.items {
                flatten(tree, before, leaves);
            }
        }
        UseTree::Glob(_) => leaves.push((before.clone(), None)),
        UseTree::Name(name) if name.ident == "self" => {
            leaves.push((before.clone(), before.last().cloned()));
        }
        UseTree::Name(name) => {
            let name = name.ident.to_string();
            leaves.push((
                [before.as_slice(), std::slice::from_ref(&name)].concat(),
                Some(name),
            ));
        }
        UseTree::Rename(rename) => {
            let name = rename.ident.to_string();
            let path = match name.as_str() {
                "self" => before.clone(),
                _ => [before.as_slice(), &[name]].concat(),
            };
            leaves.push((path, Some(rename.rename.to_string())));
        }
    }
}

/// A path from the root of the crate, if it leads into the crate.
fn absolute(
    module: &ModulePath,
    children: &BTreeSet<String>,
    path: &[String],
) -> Option<ModulePath> {
    let mut base = module.clone();
    match path.first()?.as_str() {
        "crate" => base.clear(),
        "self" => {}
        "super" => {}
        // `pub use child::Item`
        child if children.contains(child) => return Some([base.as_slice(), path].concat()),
        _ => return None,
    }
    let skip = usize::from(path[0] != "super");
    let mut rest = &path[skip..];
    while rest.first().is_some_and(|segment| segment == "super") {
        base.pop();
        rest = &rest[1..];
    }
    Some([base.as_slice(), rest].concat())
}

/// Every path of an item that begins with `crate` or `super`, those within macros included.
#[derive(Default)]
struct Paths(Vec<Vec<String>>);

impl<'ast> Visit<'ast> for Paths {
    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments = path.segments.iter().map(|s| s.ident.to_string());
        self.take(segments.collect());
        syn::visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, invocation: &'ast syn::Macro) {
        self.take_tokens(invocation.tokens.clone());
        syn::visit::visit_macro(self, invocation);
    }

    fn visit_item_mod(&mut self, _: &'ast ItemMod) {}

    /// `pub(super)` imports nothing.
    fn visit_vis_restricted(&mut self, _: &'ast syn::VisRestricted) {}
}

impl Paths {
    fn take(&mut self, segments: Vec<String>) {
        let first = segments.first().map(String::as_str);
        // `crate` alone is a visibility within a macro.
        if segments.len() > 1 && matches!(first, Some("crate" | "super")) {
            self.0.push(segments);
        }
    }

    fn take_tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(name) if path.is_empty() || colons == 2 => {
                    path.push(name.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' && !path.is_empty() => {
                    colons += 1
                }
                token => {
                    self.take(std::mem::take(&mut path));
                    colons = 0;
                    match token {
                        TokenTree::Ident(name) => path.push(name.to_string()),
                        TokenTree::Group(group) => self.take_tokens(group.stream()),
                        _ => {}
                    }
                }
            }
        }
        self.take(path);
    }
}
