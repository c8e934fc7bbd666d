//! What the tests of all clouds share: services on loopback, homes with files in them, programs on the `PATH`.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Mutex};

use super::Tools;
use crate::config::env::Environment;
use crate::config::known::Known;

/// A service that answers by path, and keeps what it was sent.
pub(super) struct Service {
    pub(super) base: String,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Service {
    pub(super) fn start(answer: impl Fn(&str) -> (u16, String) + Send + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let base = format!("http://{}", listener.local_addr().expect("an address"));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&seen);
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let mut request = Vec::new();
                let mut buffer = [0; 4096];
                loop {
                    let count = stream.read(&mut buffer).unwrap_or_default();
                    request.extend_from_slice(&buffer[..count]);
                    let text = String::from_utf8_lossy(&request).into_owned();
                    let Some((head, body)) = text.split_once("\r\n\r\n") else {
                        if count == 0 { break } else { continue }
                    };
                    let length = head.lines().find_map(|line| {
                        line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok()
                    });
                    if body.len() >= length.unwrap_or_default() || count == 0 {
                        break;
                    }
                }
                let text = String::from_utf8_lossy(&request).into_owned();
                let (status, body) = answer(&text);
                kept.lock().expect("kept").push(text);
                let _ = write!(
                    stream,
                    "HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                );
            }
        });
        Self { base, seen }
    }

    pub(super) fn seen(&self) -> Vec<String> {
        self.seen.lock().expect("seen").clone()
    }
}

/// A home with files, and variables.
pub(super) struct Setting {
    home: tempfile::TempDir,
    variables: BTreeMap<String, String>,
    known: Known,
}

impl Setting {
    pub(super) fn new(variables: &[(&str, &str)]) -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let mut all: BTreeMap<String, String> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        all.insert("HOME".to_owned(), home.path().display().to_string());
        // Only tests that bring one have a metadata service.
        if !all.contains_key("AWS_EC2_METADATA_SERVICE_ENDPOINT") {
            all.insert("AWS_EC2_METADATA_DISABLED".to_owned(), "true".to_owned());
        }
        Self { home, variables: all, known: Known::new() }
    }

    pub(super) fn file(self, name: &str, text: &str) -> Self {
        let file = self.home.path().join(name);
        fs_err::create_dir_all(file.parent().expect("a parent")).expect("made");
        fs_err::write(file, text).expect("written");
        self
    }

    pub(super) fn path(&self, name: &str) -> String {
        self.home.path().join(name).display().to_string()
    }

    pub(super) fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    /// A program on the `PATH`: a shell script.
    pub(super) fn program(self, name: &str, script: &str) -> Self {
        let file = format!("bin/{name}");
        let made = self.file(&file, &format!("#!/bin/sh\n{script}\n"));
        let mode = std::fs::Permissions::from_mode(0o755);
        fs_err::set_permissions(made.path(&file), mode).expect("executable");
        let path = format!("{}:/usr/bin:/bin", made.path("bin"));
        made.variable("PATH", &path)
    }

    /// What is blanked in output.
    pub(super) fn known(&self) -> &Known {
        &self.known
    }

    pub(super) fn tools(&self) -> Tools {
        let env =
            Environment::given(self.variables.iter().map(|(name, value)| (name.clone(), value.clone())));
        Tools::new(env, self.known.clone())
    }
}
