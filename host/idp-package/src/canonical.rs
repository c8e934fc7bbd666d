//! JSON of which there is one spelling: keys sorted, no space, numbers as they are. For whole numbers, as all of ours are, this is
//! RFC 8785.

use serde::Serialize;
use serde_json::Value;

/// The one spelling of a value.
///
/// # Errors
/// The value cannot be JSON at all: a map whose keys are no strings.
pub fn to_vec(value: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    let mut value = serde_json::to_value(value)?;
    sort(&mut value);
    serde_json::to_vec(&value)
}

/// Maps are sorted already, unless some crate of the program switches `preserve_order` on for all of it.
fn sort(value: &mut Value) {
    match value {
        Value::Object(map) => {
            let mut pairs: Vec<(String, Value)> = std::mem::take(map).into_iter().collect();
            pairs.sort_by(|(one, _), (other, _)| one.cmp(other));
            pairs.iter_mut().for_each(|(_, value)| sort(value));
            map.extend(pairs);
        }
        Value::Array(list) => list.iter_mut().for_each(sort),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn keys_are_sorted_all_the_way_down() {
        let value = serde_json::json!({"b": [{"z": 1, "a": "ä\n"}], "a": null});
        let bytes = super::to_vec(&value).expect("JSON");
        assert_eq!(String::from_utf8(bytes).expect("text"), r#"{"a":null,"b":[{"a":"ä\n","z":1}]}"#);
    }
}
