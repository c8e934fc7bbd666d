//! Which child of an index is meant by a platform (image-spec, "platform"). No I/O.

use crate::manifest::Platform;

/// Whether an image for `offered` is what `wanted` asks for. A variant that is not asked for does not matter; `arm64` is `v8`.
pub fn matches(wanted: &Platform, offered: &Platform) -> bool {
    let default = |platform: &Platform| {
        let variant = platform.variant().clone();
        let is_arm64 = platform.architecture().to_string() == "arm64";
        variant.or_else(|| is_arm64.then(|| "v8".to_owned()))
    };
    wanted.os() == offered.os()
        && wanted.architecture() == offered.architecture()
        && (wanted.variant().is_none() || default(wanted) == default(offered))
        && wanted.os_version().as_ref().is_none_or(|version| Some(version) == offered.os_version().as_ref())
}

/// `os/architecture[/variant]`.
pub(super) fn shown(platform: &Platform) -> String {
    let variant = platform.variant().as_ref().map(|variant| format!("/{variant}")).unwrap_or_default();
    format!("{}/{}{variant}", platform.os(), platform.architecture())
}

#[cfg(test)]
mod tests {
    use super::{matches, shown};
    use crate::manifest::Platform;

    fn platform(text: &str) -> Platform {
        let mut parts = text.split('/');
        let mut next = || parts.next().map(str::to_owned);
        let json = serde_json::json!({ "os": next(), "architecture": next(), "variant": next() });
        serde_json::from_value(json).expect(text)
    }

    #[test]
    fn platforms() {
        for (wanted, offered, expect) in [
            ("linux/amd64", "linux/amd64", true),
            ("linux/amd64", "linux/arm64", false),
            ("linux/amd64", "windows/amd64", false),
            ("linux/arm64", "linux/arm64/v8", true),
            ("linux/arm64/v8", "linux/arm64", true),
            ("linux/arm/v7", "linux/arm/v6", false),
            ("linux/arm", "linux/arm/v6", true),
        ] {
            assert_eq!(matches(&platform(wanted), &platform(offered)), expect, "{wanted} {offered}");
        }
        assert_eq!(shown(&platform("linux/arm/v7")), "linux/arm/v7");
    }
}
