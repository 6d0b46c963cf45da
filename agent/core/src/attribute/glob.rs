//! Patterns with `*`, as rules use them.

use std::fmt;

/// A pattern in which `*` stands for any text, also for none; everything else for itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Glob(Box<str>);

impl Glob {
    /// The pattern.
    pub fn new(pattern: &str) -> Self {
        Self(pattern.into())
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True if the whole of `text` fits the pattern.
    ///
    /// Takes at most `pattern × text` steps: only the last `*` is ever tried again.
    pub fn matches(&self, text: &str) -> bool {
        let (pattern, text) = (self.0.as_bytes(), text.as_bytes());
        let (mut p, mut t) = (0, 0);
        let mut retry: Option<(usize, usize)> = None;
        while t < text.len() {
            match pattern.get(p) {
                Some(b'*') => {
                    p += 1;
                    retry = Some((p, t));
                }
                Some(byte) if *byte == text[t] => {
                    p += 1;
                    t += 1;
                }
                _ => match retry {
                    Some((after_star, from)) => {
                        p = after_star;
                        t = from + 1;
                        retry = Some((after_star, from + 1));
                    }
                    None => return false,
                },
            }
        }
        pattern[p..].iter().all(|byte| *byte == b'*')
    }
}

impl fmt::Debug for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Glob({})", self.0)
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the pattern means, slowly.
    fn means(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|at| means(rest, &text[at..])),
            Some((byte, rest)) => text
                .split_first()
                .is_some_and(|(b, text)| b == byte && means(rest, text)),
        }
    }

    #[test]
    fn stars_stand_for_any_text() {
        assert!(Glob::new("eth*").matches("eth0"));
        assert!(Glob::new("*").matches(""));
        assert!(Glob::new("http.*.count").matches("http.get.count"));
        assert!(!Glob::new("http.*.count").matches("http.count"));
        assert!(!Glob::new("eth").matches("eth0"));
    }

    proptest! {
        #[test]
        fn agrees_with_its_meaning(pattern in "[ab*]{0,8}", text in "[ab]{0,12}") {
            let expected = means(pattern.as_bytes(), text.as_bytes());
            prop_assert_eq!(Glob::new(&pattern).matches(&text), expected);
        }
    }
}
