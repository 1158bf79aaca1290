//! Strings as ECMAScript sees them, so that Rust and the host's JavaScript agree on what is blank and what is equal.

/// Whether ECMAScript's `trim()` strips this character: `WhiteSpace` and `LineTerminator` of ECMA-262.
///
/// U+FEFF is stripped and U+0085 is not; Rust's own `trim` does it the other way round.
fn is_space(c: char) -> bool {
    matches!(
        c,
        '\u{9}'..='\u{D}'
            | ' '
            | '\u{A0}'
            | '\u{1680}'
            | '\u{2000}'..='\u{200A}'
            | '\u{2028}'
            | '\u{2029}'
            | '\u{202F}'
            | '\u{205F}'
            | '\u{3000}'
            | '\u{FEFF}'
    )
}

/// `String.prototype.trim`.
#[must_use]
pub fn trim(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// `String.prototype.toLowerCase`: Unicode's full mapping with the final-sigma rule, no locale.
#[must_use]
pub fn to_lower_case(text: &str) -> String {
    text.to_lowercase()
}

/// Whether nothing is left after [`trim`].
#[must_use]
pub fn is_blank(text: &str) -> bool {
    trim(text).is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trims_what_ecmascript_trims() {
        assert_eq!(trim("\u{FEFF}\u{A0}a\u{2029}\t"), "a");
        assert_eq!(trim("\u{85}a\u{85}"), "\u{85}a\u{85}");
        assert_eq!(trim("\u{200B}a"), "\u{200B}a");
    }

    #[test]
    fn lowers_the_special_cases() {
        assert_eq!(to_lower_case("İ"), "i\u{307}");
        assert_eq!(to_lower_case("ΑΣ"), "ας");
        assert_eq!(to_lower_case("ΑΣΑ"), "ασα");
    }
}
