//! Secrets that would be published with the package. Only where they are is told, never what they are.

use base64::Engine as _;

use crate::kube::{LARGEST_TEXT, Node, Object, Role, base, is_placeholder};
use crate::validate::Context;
use crate::validate::rule::{Findings, Place, Rule, Severity};

const KEY: Rule = Rule::new(
    "secret-private-key",
    Severity::Error,
    "A private key is in the package; whoever can pull the package has it.",
);
const TOKEN: Rule = Rule::new(
    "secret-token",
    Severity::Error,
    "A token of a known service is in the package; whoever can pull the package has it.",
);
const KUBECONFIG: Rule = Rule::new(
    "secret-kubeconfig",
    Severity::Error,
    "A kubeconfig with a token, a password or a client key is in the package.",
);
const DOTENV: Rule = Rule::new(
    "secret-dotenv",
    Severity::Warning,
    "A .env file with something that is called a password, a token or a key is in the package.",
);
const OBJECT: Rule = Rule::new(
    "secret-object",
    Severity::Warning,
    "A Secret holds what looks like the real thing; generate it in the cluster, or keep it encrypted.",
);

pub(super) const RULES: &[Rule] = &[KEY, TOKEN, KUBECONFIG, DOTENV, OBJECT];

pub(super) fn check(context: &Context<'_>, findings: &mut Findings<'_>) {
    for (path, file) in context.scan.files.iter() {
        let Ok(bytes) = file.read(LARGEST_TEXT) else { continue };
        let Ok(text) = std::str::from_utf8(&bytes) else { continue };
        keys(path, text, findings);
        tokens(path, text, findings);
        dotenv(path, text, findings);
    }
    for (path, scanned) in &context.scan.scanned {
        if scanned.role == Role::Template {
            continue;
        }
        for node in &scanned.documents {
            kubeconfig(path, node, findings);
        }
    }
    for object in context.scan.objects().into_iter().chain(context.scan.patches()) {
        secret(&object, findings);
    }
}

fn rotate() -> Option<String> {
    Some("take it out, and replace it where it is used: it is known now".to_owned())
}

fn number(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// The line and column of a byte of a text, from 1.
fn place<'a>(path: &'a str, text: &str, at: usize) -> Place<'a> {
    let before = &text.as_bytes()[..at];
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    Place::line(path, number(line), number(at - start + 1))
}

/// A file full of them is told of often enough; each place costs a look through the file.
const MOST: usize = 50;

fn keys(path: &str, text: &str, findings: &mut Findings<'_>) {
    const BEGIN: &str = "-----BEGIN ";
    let mut found = 0;
    for (at, _) in text.match_indices(BEGIN).take(1000) {
        let rest = &text[at + BEGIN.len()..];
        let Some((label, body)) = rest.split_once("-----") else { continue };
        // PGP has `… KEY BLOCK`; encrypted ones need their passphrase, and are not to be published either.
        if label.len() > 40 || !label.contains("PRIVATE KEY") {
            continue;
        }
        // Real ones are long lines of base64, also as `\n` in a JSON text; what only shows where one goes is not.
        let body = body.split("-----").next().unwrap_or_default();
        let body: Vec<&str> = body
            .split(|char: char| char.is_whitespace() || matches!(char, '\\' | '"' | '\'' | ','))
            .map(|part| part.trim_start_matches('n'))
            .filter(|part| part.len() >= 40 && part.bytes().all(is_base64))
            .collect();
        if body.iter().any(|line| entropy(line) > 3.5) {
            findings.add(&KEY, place(path, text, at), "a private key", rotate());
            found += 1;
            if found == MOST {
                return;
            }
        }
    }
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=')
}

/// How tokens of well-known services begin, what they are made of, and how long they are after that.
struct Shape {
    what: &'static str,
    start: &'static str,
    made_of: fn(u8) -> bool,
    least: usize,
    most: usize,
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn is_slug(byte: u8) -> bool {
    is_word(byte) || byte == b'-'
}

fn is_upper(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit()
}

fn is_dotted(byte: u8) -> bool {
    is_slug(byte) || byte == b'.'
}

const SHAPES: [Shape; 19] = [
    Shape { what: "an AWS access key", start: "AKIA", made_of: is_upper, least: 16, most: 16 },
    Shape { what: "an AWS session key", start: "ASIA", made_of: is_upper, least: 16, most: 16 },
    Shape { what: "a GitHub token", start: "ghp_", made_of: is_word, least: 36, most: 255 },
    Shape { what: "a GitHub token", start: "gho_", made_of: is_word, least: 36, most: 255 },
    Shape { what: "a GitHub token", start: "ghu_", made_of: is_word, least: 36, most: 255 },
    Shape { what: "a GitHub token", start: "ghs_", made_of: is_word, least: 36, most: 255 },
    Shape { what: "a GitHub token", start: "ghr_", made_of: is_word, least: 36, most: 255 },
    Shape { what: "a GitHub token", start: "github_pat_", made_of: is_word, least: 60, most: 255 },
    Shape { what: "a GitLab token", start: "glpat-", made_of: is_slug, least: 20, most: 255 },
    Shape { what: "a Slack token", start: "xoxb-", made_of: is_slug, least: 30, most: 255 },
    Shape { what: "a Slack token", start: "xoxp-", made_of: is_slug, least: 30, most: 255 },
    Shape {
        what: "a Slack webhook",
        start: "hooks.slack.com/services/T",
        made_of: |byte| is_word(byte) || byte == b'/',
        least: 35,
        most: 100,
    },
    Shape { what: "a Google API key", start: "AIza", made_of: is_slug, least: 35, most: 35 },
    Shape { what: "a Docker Hub token", start: "dckr_pat_", made_of: is_slug, least: 20, most: 60 },
    Shape { what: "an npm token", start: "npm_", made_of: is_word, least: 36, most: 36 },
    Shape { what: "a PyPI token", start: "pypi-AgEI", made_of: is_slug, least: 50, most: 400 },
    Shape { what: "a Vault token", start: "hvs.", made_of: is_slug, least: 24, most: 200 },
    Shape { what: "a Stripe key", start: "sk_live_", made_of: is_word, least: 20, most: 200 },
    Shape {
        what: "a service account's token",
        start: "eyJhbGciOi",
        made_of: is_dotted,
        least: 100,
        most: 4000,
    },
];

fn tokens(path: &str, text: &str, findings: &mut Findings<'_>) {
    let bytes = text.as_bytes();
    for shape in &SHAPES {
        let mut found = 0;
        for (at, start) in text.match_indices(shape.start).take(1000) {
            // In the middle of a word it is something else.
            if at > 0 && is_word(bytes[at - 1]) {
                continue;
            }
            let rest = &bytes[at + start.len()..];
            let length = rest.iter().take(shape.most + 1).take_while(|byte| (shape.made_of)(**byte)).count();
            if !(shape.least..=shape.most).contains(&length) {
                continue;
            }
            let secret = &text[at + start.len()..at + start.len() + length];
            // What documentation shows.
            let upper = secret.to_ascii_uppercase();
            if upper.contains("EXAMPLE") || upper.contains("XXXX") || entropy(secret) < 2.5 {
                continue;
            }
            findings.add(&TOKEN, place(path, text, at), shape.what, rotate());
            found += 1;
            if found == MOST {
                break;
            }
        }
    }
}

/// Bits a character, as it is distributed in the text itself.
fn entropy(text: &str) -> f64 {
    let mut counts = [0_u32; 256];
    for byte in text.bytes() {
        counts[usize::from(byte)] += 1;
    }
    let all = f64::from(number(text.len().max(1)));
    counts
        .iter()
        .filter(|count| **count > 0)
        .map(|count| {
            let share = f64::from(*count) / all;
            -share * share.log2()
        })
        .sum()
}

fn kubeconfig(path: &str, node: &Node, findings: &mut Findings<'_>) {
    if node.text_at(&["kind"]) != Some("Config") || node.text_at(&["apiVersion"]) != Some("v1") {
        return;
    }
    for user in node.get("users").map_or(&[][..], Node::items) {
        for key in ["token", "password", "client-key-data"] {
            if let Some(value) = user.at(&["user", key])
                && is_real(value.text().unwrap_or_default())
            {
                let message = format!("a kubeconfig with a user's {key}");
                findings.add(&KUBECONFIG, Place::of(path, value), message, rotate());
            }
        }
    }
}

fn dotenv(path: &str, text: &str, findings: &mut Findings<'_>) {
    let name = base(path);
    let example = ["example", "sample", "template", "dist"].iter().any(|part| name.contains(part));
    if example || !(name == ".env" || name.starts_with(".env.") || name.ends_with(".env")) {
        return;
    }
    for (line, at) in text.lines().zip(1_u32..) {
        let line = line.trim();
        let Some((key, value)) = line.strip_prefix("export ").unwrap_or(line).split_once('=') else {
            continue;
        };
        if !line.starts_with('#') && is_secret_key(key) && is_real(value.trim_matches(['"', '\''])) {
            findings.add(
                &DOTENV,
                Place::line(path, at, 1),
                format!("`{}` has a value", key.trim()),
                rotate(),
            );
        }
    }
}

fn secret(object: &Object<'_>, findings: &mut Findings<'_>) {
    if !object.is("", "Secret") {
        return;
    }
    // Others of these types hold nothing but secrets.
    let whole = matches!(
        object.node.text_at(&["type"]),
        Some(
            "kubernetes.io/basic-auth"
                | "kubernetes.io/ssh-auth"
                | "kubernetes.io/dockerconfigjson"
                | "kubernetes.io/tls"
        )
    );
    for (section, encoded) in [("data", true), ("stringData", false)] {
        for entry in object.at(&[section]).map_or(&[][..], Node::entries) {
            let public = matches!(entry.key.as_str(), "username" | "tls.crt" | "ca.crt")
                || ["time", "date", "name", "url", "ref"]
                    .iter()
                    .any(|end| entry.key.to_lowercase().ends_with(end));
            if public || !(whole || is_secret_key(&entry.key)) {
                continue;
            }
            let Some(text) = entry.value.text() else { continue };
            let decoded;
            let text = if encoded {
                let bytes = base64::engine::general_purpose::STANDARD
                    .decode(text.split_whitespace().collect::<String>());
                decoded = bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
                decoded.as_str()
            } else {
                text
            };
            if is_real(text) {
                let key: String = entry.key.chars().take(60).collect();
                let message = format!("`{section}.{key}` of a Secret has a value that looks real");
                let fix = Some(
                    "let the cluster generate it, or bring it from a secret store (External Secrets, SOPS)"
                        .to_owned(),
                );
                findings.add(&OBJECT, Place::of(object.file, &entry.value), message, fix);
            }
        }
    }
}

fn is_secret_key(key: &str) -> bool {
    let key: String =
        key.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    ["password", "passwd", "secret", "token", "apikey", "privatekey", "accesskey", "credential", "sshkey"]
        .iter()
        .any(|part| key.contains(part))
        || key == "tlskey"
        || key == "dockerconfigjson"
        || key.ends_with("pass")
}

/// Whether a value could be the real thing: not empty, not a placeholder, not one of those that everybody writes.
fn is_real(text: &str) -> bool {
    let text = text.trim();
    let lower = text.to_ascii_lowercase();
    // A field of a template, and `<path:…>` or `ref+vault://` of tools that fill it in.
    let stands_for = is_placeholder(text)
        || text.starts_with(['<', '$', '%'])
        || text.starts_with("ref+")
        || text.starts_with("op://")
        || text.starts_with("vault:");
    let usual = [
        "changeme",
        "change-me",
        "change_me",
        "password",
        "example",
        "placeholder",
        "redacted",
        "replace",
        "dummy",
        "your",
        "todo",
        "xxxx",
        "****",
        "admin",
        "secret",
        "fake",
        "insert",
    ];
    text.len() >= 8 && !stands_for && !usual.iter().any(|word| lower.contains(word)) && entropy(text) >= 2.5
}

#[cfg(test)]
mod tests {
    use super::{entropy, is_real, is_secret_key};

    #[test]
    fn what_could_be_real() {
        for real in ["hK3!x9Qz$Lm2", "correct horse battery"] {
            assert!(is_real(real), "{real}");
        }
        for not in ["", "admin", "changeme123", "${PASSWORD}", "<path:secret#x>", "aaaaaaaaaaaa", "{{ .x }}"]
        {
            assert!(!is_real(not), "{not}");
        }
        assert!(is_secret_key("DB_PASSWORD") && is_secret_key("api-key") && !is_secret_key("url"));
        assert!(entropy("aaaa") < 0.1 && entropy("abcd") > 1.9);
    }
}
