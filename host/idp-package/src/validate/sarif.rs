//! A report as SARIF 2.1.0, for code hosts and editors. The same report gives the same bytes.

use serde_json::{Value, json};

use super::{Finding, Report, Severity, rules};

/// The document, as JSON with indentation. `version` is the program's.
pub fn render(report: &Report, version: &str) -> String {
    let mut text = serde_json::to_string_pretty(&document(report, version)).expect("a JSON value is JSON");
    text.push('\n');
    text
}

fn document(report: &Report, version: &str) -> Value {
    let rules: Vec<&super::Rule> = rules().collect();
    let described: Vec<Value> = rules
        .iter()
        .map(|rule| {
            json!({
                "id": rule.id,
                "shortDescription": { "text": first_sentence(rule.explanation) },
                "fullDescription": { "text": rule.explanation },
                "defaultConfiguration": { "level": level(rule.severity) },
            })
        })
        .collect();
    let results: Vec<Value> = report
        .findings
        .iter()
        .map(|finding| result(finding, rules.iter().position(|rule| rule.id == finding.rule)))
        .collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "idp package validate",
                "semanticVersion": version,
                "rules": described,
            }},
            "columnKind": "unicodeCodePoints",
            "originalUriBaseIds": { "PACKAGE": { "description": { "text": "The package's directory." } } },
            "results": results,
        }],
    })
}

fn result(finding: &Finding, index: Option<usize>) -> Value {
    let message = match &finding.fix {
        Some(fix) => format!("{}\n{fix}", finding.message),
        None => finding.message.clone(),
    };
    let mut result = json!({
        "ruleId": finding.rule,
        "level": level(finding.severity),
        "message": { "text": message },
    });
    if let Some(index) = index {
        result["ruleIndex"] = json!(index);
    }
    if let Some(file) = &finding.file {
        let mut physical = json!({ "artifactLocation": { "uri": uri(file), "uriBaseId": "PACKAGE" } });
        if let Some(line) = finding.line {
            let mut region = json!({ "startLine": line });
            if let Some(column) = finding.column {
                region["startColumn"] = json!(column);
            }
            physical["region"] = region;
        }
        result["locations"] = json!([{ "physicalLocation": physical }]);
    }
    result
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Info => "note",
    }
}

fn first_sentence(text: &str) -> String {
    let end = text.find([':', ';']).map_or(text.trim_end_matches('.'), |at| &text[..at]);
    format!("{end}.")
}

/// A path as a relative reference of RFC 3986.
fn uri(path: &str) -> String {
    use std::fmt::Write as _;
    let mut uri = String::new();
    for byte in path.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                uri.push(byte as char)
            }
            _ => {
                let _ = write!(uri, "%{byte:02X}");
            }
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::{render, uri};
    use crate::kube::{File, Files};
    use crate::validate::{Settings, validate};

    #[test]
    fn findings_become_results() {
        let pod =
            "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: a, image: nginx}]}\n";
        let mut files = Files::new();
        files.insert("a b.yaml", File::bytes(pod, false));
        let report = validate(&files, None, &Settings::new());
        let text = render(&report, "1.2.3");
        assert_eq!(text, render(&validate(&files, None, &Settings::new()), "1.2.3"));
        let document: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let result = &document["runs"][0]["results"][0];
        assert_eq!(result["ruleId"], "image-latest");
        assert_eq!(result["level"], "warning");
        let index = usize::try_from(result["ruleIndex"].as_u64().expect("an index")).expect("a small number");
        assert_eq!(document["runs"][0]["tool"]["driver"]["rules"][index]["id"], "image-latest");
        let place = &result["locations"][0]["physicalLocation"];
        assert_eq!(place["artifactLocation"]["uri"], "a%20b.yaml");
        assert_eq!(place["region"]["startLine"], 4);
    }

    #[test]
    fn paths_become_references() {
        assert_eq!(uri("a/b c#é.yaml"), "a/b%20c%23%C3%A9.yaml");
    }
}
