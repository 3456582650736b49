//! Unpaired surrogates, as `JSON.stringify` writes them for a text that was cut in the middle of a character.

/// Replacement of an unpaired surrogate: an escape of the same length, which preserves positions in the JSON.
const REPLACEMENT: &[u8; ESCAPE] = br"\ufffd";
/// The length of `\ud83d`.
const ESCAPE: usize = 6;

/// Returns `json` with each unpaired surrogate replaced by U+FFFD; `None` if there is none.
pub(super) fn repaired(json: &[u8]) -> Option<Vec<u8>> {
    let mut repaired: Option<Vec<u8>> = None;
    let mut at = 0;
    while let Some(found) = memchr::memchr(b'\\', &json[at..]) {
        at += found;
        match (unit(&json[at..]), unit(json.get(at + ESCAPE..).unwrap_or_default())) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => at += 2 * ESCAPE,
            (Some(0xd800..=0xdfff), _) => {
                repaired.get_or_insert_with(|| json.to_vec())[at..at + ESCAPE].copy_from_slice(REPLACEMENT);
                at += ESCAPE;
            }
            // The backslash and the escaped character, which may be a backslash.
            _ => at = json.len().min(at + 2),
        }
    }
    repaired
}

/// Returns the UTF-16 unit of the escape at the beginning of `json`.
fn unit(json: &[u8]) -> Option<u16> {
    let digits = json.get(..ESCAPE)?.strip_prefix(br"\u")?;
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u16::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repair(json: &str) -> Option<String> {
        repaired(json.as_bytes()).map(|json| String::from_utf8(json).unwrap())
    }

    #[test]
    fn half_a_pair_is_replaced_and_a_whole_one_stays() {
        assert_eq!(repair(r#""hi \ud83d""#).unwrap(), r#""hi \ufffd""#);
        assert_eq!(repair(r#""\udE00 hi""#).unwrap(), r#""\ufffd hi""#);
        assert_eq!(repair(r#""\ud83d\ud83d\ude00\ude00""#).unwrap(), r#""\ufffd\ud83d\ude00\ufffd""#);
        assert_eq!(repair(r#""\ud83d\n\ude00""#).unwrap(), r#""\ufffd\n\ufffd""#);
        for whole in [r#""hi \ud83d\ude00""#, r#""\\ud83d""#, r#""é 😀 \n \u00e9""#, "", "\\", r"\u", r"\ud8"] {
            assert_eq!(repair(whole), None, "{whole}");
        }
        assert_eq!(repair(r#""\\\ud83d""#).unwrap(), r#""\\\ufffd""#);
    }
}
