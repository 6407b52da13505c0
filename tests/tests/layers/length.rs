//! How long functions are.

use std::path::Path;

use syn::{Block, spanned::Spanned, visit::Visit};

/// The most lines of a function. A longer one says why in a comment that begins with `// Long:`.
const MOST_LINES: usize = 80;

/// The functions of the library and its macros that are longer, and give no reason.
pub(super) fn long_functions(root: &Path) -> Vec<String> {
    let mut long = Vec::new();
    for folder in ["frestq/src", "frestq-macros/src"] {
        look(root, &root.join(folder), &mut long);
    }
    long
}

fn look(root: &Path, folder: &Path, long: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.ends_with("tests") {
            continue;
        }
        if path.is_dir() {
            look(root, &path, long);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let file = syn::parse_file(&text).unwrap();
            let mut functions = Functions(Vec::new());
            functions.visit_file(&file);
            let lines: Vec<&str> = text.lines().collect();
            for (name, first, last) in functions.0 {
                let reason = lines[first - 1..last]
                    .iter()
                    .any(|l| l.trim().starts_with("// Long:"));
                if last - first + 1 > MOST_LINES && !reason {
                    let file = path.strip_prefix(root).unwrap_or(&path);
                    long.push(format!(
                        "{}:{first} {name}: {} lines",
                        file.display(),
                        last - first + 1
                    ));
                }
            }
        }
    }
}

/// The name, first and last line of each function.
struct Functions(Vec<(String, usize, usize)>);

impl Functions {
    fn take(&mut self, name: String, start: &impl Spanned, block: &Block) {
        let (first, last) = (start.span().start().line, block.span().end().line);
        self.0.push((name, first, last));
    }
}

impl<'ast> Visit<'ast> for Functions {
    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.take(
            function.sig.ident.to_string(),
            &function.sig,
            &function.block,
        );
        syn::visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.take(
            function.sig.ident.to_string(),
            &function.sig,
            &function.block,
        );
        syn::visit::visit_impl_item_fn(self, function);
    }
}
