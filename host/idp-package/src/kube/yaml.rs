//! YAML text to nodes with places. Bounds on depth, on nodes and on what aliases expand to; what is wrong is collected.

use std::collections::{HashMap, HashSet};

use granit_parser::{Event, Parser, ScalarStyle, Span, options};

use super::node::{Entry, Kind, Node, Value};

/// What a text may hold.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How deep values may be nested, with aliases followed.
    pub depth: usize,
    /// How many values there may be, with aliases followed.
    pub nodes: usize,
    /// How many things that are wrong are told.
    pub problems: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { depth: 120, nodes: 500_000, problems: 100 }
    }
}

/// What was read of a text.
#[derive(Debug, Clone, Default)]
pub struct Parsed {
    /// The documents that are whole and not empty.
    pub documents: Vec<Node>,
    /// What is wrong, in the order of the text.
    pub problems: Vec<Problem>,
    /// How many values were read, with aliases followed.
    pub nodes: usize,
}

/// Something wrong in a YAML text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What kind of thing.
    pub kind: ProblemKind,
    /// From 1.
    pub line: u32,
    /// From 1.
    pub column: u32,
    /// In words.
    pub message: String,
}

/// What kind of thing is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProblemKind {
    /// No YAML.
    Syntax,
    /// A mapping has a key twice.
    Duplicate,
    /// A key that is no single value.
    Key,
    /// Larger or deeper than what is read.
    Limit,
}

/// Reads every document of a text.
pub fn parse(text: &str, limits: Limits) -> Parsed {
    let options = options! {
        emit_comments: false,
        flow_nesting_limit: limits.depth,
        block_nesting_limit: limits.depth,
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut parser = Parser::new_from_str_with_options(text, options);
    let mut build = Build { limits, parsed: Parsed::default(), stack: Vec::new(), anchors: HashMap::new() };
    loop {
        match parser.next_event() {
            None => break,
            Some(Ok((event, span))) => {
                if !build.event(event, span) {
                    break;
                }
            }
            Some(Err(error)) => {
                let mark = *error.marker();
                let kind =
                    if error.info().contains("limit") { ProblemKind::Limit } else { ProblemKind::Syntax };
                build.problem(kind, place(&mark), error.info().to_string());
                build.stack.clear();
                build.anchors.clear();
                // What comes after the next `---` is still told of.
                if build.parsed.problems.len() >= limits.problems
                    || !matches!(parser.proceed_next_document(), Ok(true))
                {
                    break;
                }
            }
        }
    }
    build.parsed
}

fn place(mark: &granit_parser::Marker) -> (u32, u32) {
    let number = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
    (number(mark.line().max(1)), number(mark.col() + 1))
}

struct Frame {
    line: u32,
    column: u32,
    anchor: usize,
    nodes: usize,
    depth: usize,
    inside: Inside,
}

enum Inside {
    List(Vec<Node>),
    Map { entries: Vec<Entry>, key: Option<(String, u32, u32)>, seen: HashSet<String> },
}

struct Anchored {
    node: Node,
    nodes: usize,
    depth: usize,
}

struct Build {
    limits: Limits,
    parsed: Parsed,
    stack: Vec<Frame>,
    anchors: HashMap<usize, Anchored>,
}

impl Build {
    fn problem(&mut self, kind: ProblemKind, (line, column): (u32, u32), message: String) {
        if self.parsed.problems.len() < self.limits.problems {
            self.parsed.problems.push(Problem { kind, line, column, message });
        }
    }

    /// False where reading ends here.
    fn event(&mut self, event: Event<'_>, span: Span) -> bool {
        let (line, column) = place(&span.start);
        match event {
            Event::DocumentStart(..) => {
                self.stack.clear();
                self.anchors.clear();
                true
            }
            Event::Scalar(text, style, anchor, tag) => {
                let tag = tag.as_deref();
                let kind = match tag.and_then(granit_parser::Tag::core_suffix) {
                    Some("null") => Kind::Null,
                    Some("bool") => Kind::Bool,
                    Some("int") => Kind::Integer,
                    Some("float") => Kind::Float,
                    Some(_) => Kind::String,
                    None if tag.is_some() || style != ScalarStyle::Plain => Kind::String,
                    None => kind_of(&text),
                };
                let node = Node { line, column, value: Value::Scalar(kind, text.into_owned()) };
                self.complete(node, anchor, 1, 0)
            }
            Event::SequenceStart(_, anchor, _) => {
                self.open(line, column, anchor, Inside::List(Vec::new()));
                true
            }
            Event::MappingStart(_, anchor, _) => {
                let inside = Inside::Map { entries: Vec::new(), key: None, seen: HashSet::new() };
                self.open(line, column, anchor, inside);
                true
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(frame) = self.stack.pop() else { return true };
                let value = match frame.inside {
                    Inside::List(items) => Value::List(items),
                    Inside::Map { entries, .. } => Value::Map(merged(entries)),
                };
                let node = Node { line: frame.line, column: frame.column, value };
                self.complete(node, frame.anchor, frame.nodes + 1, frame.depth + 1)
            }
            Event::Alias(id) => {
                let Some(anchored) = self.anchors.get(&id) else {
                    let message = "an alias to what it is itself part of".to_owned();
                    self.problem(ProblemKind::Syntax, (line, column), message);
                    return false;
                };
                let (nodes, depth) = (anchored.nodes, anchored.depth);
                // Before it is copied: a few lines of aliases to aliases are more than any memory.
                if self.parsed.nodes + self.open_nodes() + nodes > self.limits.nodes
                    || self.stack.len() + depth > self.limits.depth
                {
                    let message =
                        "with its aliases followed, the file is larger than what is read".to_owned();
                    self.problem(ProblemKind::Limit, (line, column), message);
                    return false;
                }
                let mut node = anchored.node.clone();
                (node.line, node.column) = (line, column);
                self.complete(node, 0, nodes, depth)
            }
            _ => true,
        }
    }

    fn open(&mut self, line: u32, column: u32, anchor: usize, inside: Inside) {
        self.stack.push(Frame { line, column, anchor, nodes: 0, depth: 0, inside });
    }

    fn open_nodes(&self) -> usize {
        self.stack.iter().map(|frame| frame.nodes).sum()
    }

    /// A value is whole: it goes to what it is in.
    fn complete(&mut self, node: Node, anchor: usize, nodes: usize, depth: usize) -> bool {
        let at = (node.line, node.column);
        if anchor > 0 {
            // The copy counts too: an anchor on every level of a deep value is many copies.
            self.parsed.nodes += nodes;
            self.anchors.insert(anchor, Anchored { node: node.clone(), nodes, depth });
        }
        let Some(frame) = self.stack.last_mut() else {
            self.parsed.nodes += nodes;
            if !node.is_null() {
                self.parsed.documents.push(node);
            }
            return true;
        };
        frame.nodes += nodes;
        frame.depth = frame.depth.max(depth);
        let mut problem = None;
        match &mut frame.inside {
            Inside::List(items) => items.push(node),
            Inside::Map { entries, key: key @ None, seen } => {
                let text = match node.value {
                    Value::Scalar(_, text) => text,
                    _ => {
                        let message = "a key that is a list or a mapping; is it a template in braces that wants quotes?";
                        problem = Some((ProblemKind::Key, message.to_owned()));
                        String::new()
                    }
                };
                if problem.is_none() && text != "<<" && !seen.insert(text.clone()) {
                    let first = entries.iter().find(|entry| entry.key == text).map_or(0, |entry| entry.line);
                    let message = format!("the key `{}` is there twice, first on line {first}", short(&text));
                    problem = Some((ProblemKind::Duplicate, message));
                }
                *key = Some((text, at.0, at.1));
            }
            Inside::Map { entries, key, .. } => {
                if let Some((key, line, column)) = key.take() {
                    entries.push(Entry { key, line, column, value: node });
                }
            }
        }
        if let Some((kind, message)) = problem {
            self.problem(kind, at, message);
        }
        if self.parsed.nodes + self.open_nodes() > self.limits.nodes {
            let message = format!("more than {} values; the rest is not read", self.limits.nodes);
            self.problem(ProblemKind::Limit, at, message);
            return false;
        }
        true
    }
}

/// With what `<<` names put in, where the mapping does not say otherwise.
fn merged(entries: Vec<Entry>) -> Vec<Entry> {
    if !entries.iter().any(|entry| entry.key == "<<") {
        return entries;
    }
    let (merges, mut own): (Vec<_>, Vec<_>) = entries.into_iter().partition(|entry| entry.key == "<<");
    let mut known: HashSet<String> = own.iter().map(|entry| entry.key.clone()).collect();
    for merge in merges {
        let sources = match merge.value.value {
            Value::List(items) => items,
            _ => vec![merge.value],
        };
        for source in sources {
            if let Value::Map(entries) = source.value {
                for entry in entries {
                    if known.insert(entry.key.clone()) {
                        own.push(entry);
                    }
                }
            }
        }
    }
    own
}

/// A key for a message.
fn short(text: &str) -> String {
    text.chars().take(80).collect()
}

/// As `sigs.k8s.io/yaml` resolves a bare scalar (`goyaml.v2/resolve.go`).
fn kind_of(text: &str) -> Kind {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Kind::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" | "n" | "N"
        | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => return Kind::Bool,
        ".nan" | ".NaN" | ".NAN" | ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" | "-.inf"
        | "-.Inf" | "-.INF" => return Kind::Float,
        _ => {}
    }
    let numeric = text.starts_with(|char: char| char.is_ascii_digit() || matches!(char, '+' | '-' | '.'));
    if !numeric {
        return Kind::String;
    }
    let plain = text.replace('_', "");
    let unsigned = plain.strip_prefix(['+', '-']).unwrap_or(&plain);
    let (digits, radix) = match unsigned.get(..2) {
        Some("0x" | "0X") => (&unsigned[2..], 16),
        Some("0b" | "0B") => (&unsigned[2..], 2),
        Some("0o" | "0O") => (&unsigned[2..], 8),
        _ if unsigned.len() > 1 && unsigned.starts_with('0') => (&unsigned[1..], 8),
        _ => (unsigned, 10),
    };
    if !digits.starts_with(['+', '-']) && u64::from_str_radix(digits, radix).is_ok() {
        return Kind::Integer;
    }
    if is_float(unsigned) { Kind::Float } else { Kind::String }
}

/// `(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn is_float(text: &str) -> bool {
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    digits(whole)
        && digits(fraction)
        && !(whole.is_empty() && fraction.is_empty())
        && exponent.is_none_or(|exponent| {
            let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            !exponent.is_empty() && digits(exponent)
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Kind, Limits, ProblemKind, kind_of, parse};

    fn problems(text: &str) -> Vec<(ProblemKind, u32, u32)> {
        let parsed = parse(text, Limits::default());
        parsed.problems.iter().map(|problem| (problem.kind, problem.line, problem.column)).collect()
    }

    #[test]
    fn places_and_paths() {
        let parsed = parse("# c\na:\n  b: [1, {c: x}]\n---\nd: yes\n", Limits::default());
        assert_eq!(parsed.problems, []);
        assert_eq!(parsed.documents.len(), 2);
        let found = parsed.documents[0].at(&["a", "b", "1", "c"]).expect("a value");
        assert_eq!((found.line, found.column, found.text()), (3, 14, Some("x")));
        let entry = parsed.documents[0].entry("a").expect("a key");
        assert_eq!((entry.line, entry.column), (2, 1));
        assert!(parsed.documents[1].at(&["d"]).expect("a value").is_true());
    }

    #[test]
    fn what_is_wrong_has_a_place_and_the_next_document_is_read() {
        assert_eq!(problems("a: 1\nb: 2\na: 3\n"), [(ProblemKind::Duplicate, 3, 1)]);
        assert_eq!(problems("a: {{.x}}\n"), [(ProblemKind::Key, 1, 5)]);
        let text = "a: b: c\n---\nx: 1\n---\ny: [\n";
        let parsed = parse(text, Limits::default());
        assert_eq!(parsed.problems.len(), 2, "{:?}", parsed.problems);
        assert_eq!(parsed.documents.len(), 1);
        assert_eq!(problems("a:\n\t- b\n").len(), 1);
        assert_eq!(problems("a: *nowhere\n").len(), 1);
    }

    #[test]
    fn merges_and_aliases() {
        let text = "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: {<<: [*a, {z: 4}]}\n";
        let parsed = parse(text, Limits::default());
        assert_eq!(parsed.problems, []);
        let root = &parsed.documents[0];
        assert_eq!(root.text_at(&["b", "x"]), Some("1"));
        assert_eq!(root.text_at(&["b", "y"]), Some("3"));
        assert_eq!(root.text_at(&["c", "z"]), Some("4"));
        assert_eq!(root.at(&["b", "<<"]), None);
    }

    #[test]
    fn bounds_hold() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..30 {
            let below = level - 1;
            bomb.push_str(&format!(
                "a{level}: &a{level} [{}]\n",
                [format!("*a{below}").as_str(); 9].join(", ")
            ));
        }
        assert_eq!(problems(&bomb).iter().map(|found| found.0).collect::<Vec<_>>(), [ProblemKind::Limit]);
        let deep = "[".repeat(100_000);
        assert_eq!(problems(&deep).iter().map(|found| found.0).collect::<Vec<_>>(), [ProblemKind::Limit]);
        let chain: String = (1..300)
            .fold("a0: &a0 [x]\n".to_owned(), |text, at| format!("{text}a{at}: &a{at} [*a{}]\n", at - 1));
        assert_eq!(problems(&chain).iter().map(|found| found.0).collect::<Vec<_>>(), [ProblemKind::Limit]);
        let limits = Limits { nodes: 10, ..Limits::default() };
        assert_eq!(parse(&"- x\n".repeat(100), limits).problems[0].kind, ProblemKind::Limit);
        assert!(!problems("&a [*a]\n").is_empty());
        assert!(problems(&"a: 1\n".repeat(1000)).len() <= 100);
    }

    #[test]
    fn scalars_are_what_kubernetes_takes_them_for() {
        for (text, kind) in [
            ("yes", Kind::Bool),
            ("Off", Kind::Bool),
            ("yEs", Kind::String),
            ("0755", Kind::Integer),
            ("0x1f", Kind::Integer),
            ("-1", Kind::Integer),
            ("1_000", Kind::Integer),
            ("089", Kind::Float),
            ("1e3", Kind::Float),
            ("1.", Kind::Float),
            (".5", Kind::Float),
            ("1.2.3", Kind::String),
            ("500m", Kind::String),
            ("-", Kind::String),
            (".", Kind::String),
            ("2020-01-01", Kind::String),
            ("~", Kind::Null),
            ("é", Kind::String),
            ("0é", Kind::String),
        ] {
            assert_eq!(kind_of(text), kind, "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        #[test]
        fn nothing_panics(text in "([a-c&*<>\\[\\]{}:,\\-?|#!%'\"\\n\\t \u{e9}0-9.]|---\\n|: |- |\\*a|&a ){0,80}") {
            let _ = parse(&text, Limits { depth: 8, nodes: 50, problems: 5 });
        }
    }
}
