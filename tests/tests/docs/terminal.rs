//! A pseudo-terminal for the output of one command, so that commands print what they would show to
//! a person.

use std::{
    ffi::CString,
    fs::File,
    io::{Read as _, Write as _},
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use rustix::{
    fs::{Mode, OFlags},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

use super::within;

/// Wide enough for listings, and still as wide as the pages.
const COLUMNS: u16 = 100;
const ROWS: u16 = 50;

/// A byte that no command prints: what stands before it has arrived.
const MARK: u8 = 0x1f;

pub(super) struct Terminal {
    path: CString,
    /// Kept open, so that the terminal outlives the command: a process in its background writes to
    /// it as well.
    slave: File,
    written: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    pub(super) fn open() -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let size = Winsize {
            ws_row: ROWS,
            ws_col: COLUMNS,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&master, size).unwrap();
        let path = ptsname(&master, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave = rustix::fs::open(&path, flags, Mode::empty()).unwrap();
        let written = Arc::new(Mutex::new(Vec::new()));
        let mut master = File::from(master);
        let store = written.clone();
        // Ends with an error as soon as nobody has the other end open any more.
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = master.read(&mut buffer) {
                store.lock().unwrap().extend_from_slice(&buffer[..length]);
            }
        });
        Self {
            path,
            slave: slave.into(),
            written,
        }
    }

    /// The device that a command writes to.
    pub(super) fn path(&self) -> PathBuf {
        PathBuf::from(self.path.to_str().unwrap())
    }

    /// Waits until all that was written before has arrived here.
    pub(super) fn settle(&mut self) {
        let marks = |written: &Mutex<Vec<u8>>| {
            let written = written.lock().unwrap();
            written.iter().filter(|byte| **byte == MARK).count()
        };
        let before = marks(&self.written);
        self.slave.write_all(&[MARK]).unwrap();
        within(Duration::from_secs(10), "the terminal answers", || {
            (marks(&self.written) > before).then_some(())
        });
    }

    /// What the terminal shows, with all that has scrolled away.
    pub(super) fn text(&self) -> String {
        let mut written = self.written.lock().unwrap().clone();
        written.retain(|byte| *byte != MARK);
        screen(&String::from_utf8_lossy(&written))
    }
}

/// What a terminal shows after it was given this: lines that were drawn over are gone, colours too.
/// It knows the sequences that frestq and cargo use.
fn screen(written: &str) -> String {
    let mut lines: Vec<Vec<char>> = vec![Vec::new()];
    let (mut row, mut column) = (0, 0);
    let mut chars = written.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\n' => {
                row += 1;
                if row == lines.len() {
                    lines.push(Vec::new());
                }
            }
            '\r' => column = 0,
            '\u{1b}' if chars.peek() == Some(&'[') => {
                chars.next();
                let mut number = String::new();
                let command = loop {
                    match chars.next() {
                        Some(c) if c.is_ascii_digit() => number.push(c),
                        Some(';') => number.clear(),
                        other => break other,
                    }
                };
                match command {
                    Some('A') => row = row.saturating_sub(number.parse().unwrap_or(1)),
                    Some('K') if number == "2" => lines[row].clear(),
                    Some('K') => lines[row].truncate(column),
                    Some('J') => {
                        lines[row].truncate(column);
                        lines.truncate(row + 1);
                    }
                    _ => {}
                }
            }
            c if c.is_control() && c != '\t' => {}
            c => {
                let line = &mut lines[row];
                while line.len() <= column {
                    line.push(' ');
                }
                line[column] = c;
                column += 1;
            }
        }
    }
    let lines: Vec<String> = lines.into_iter().map(String::from_iter).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_were_drawn_over_are_gone() {
        let written =
            "\u{1b}[1mone\u{1b}[0m\r\n\r\u{1b}[2Ktwo\r\n\u{1b}[2A\r\u{1b}[2K1\n\r\u{1b}[J";
        assert_eq!(screen(written), "1\n");
        assert_eq!(screen("a\r\nb\r\n"), "a\nb\n");
    }

    #[test]
    fn a_command_sees_a_terminal() {
        let mut terminal = Terminal::open();
        let script = format!(
            "test -t 1 >'{}' && echo yes >'{0}'",
            terminal.path().display()
        );
        let status = std::process::Command::new("bash")
            .args(["-c", &script])
            .status();
        assert!(status.unwrap().success());
        terminal.settle();
        assert_eq!(terminal.text(), "yes\n");
    }
}
