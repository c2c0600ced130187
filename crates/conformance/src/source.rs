//! Tokens of Rust source.

/// Numbers (from 1) of the lines of `source` in which `token` occurs as a whole word of code: not in a
/// comment, a string, a character, or as a part of a longer name.
#[must_use]
pub fn lines_with_token(source: &str, token: &str) -> Vec<usize> {
    let text: Vec<char> = source.chars().collect();
    let (mut lines, mut position) = (Vec::new(), 0);
    while let Some(c) = text.get(position) {
        let rest = text.get(position..).unwrap_or_default();
        let length = if c.is_alphabetic() || *c == '_' {
            let word: String = rest.iter().take_while(|c| is_word(**c)).collect();
            if word == token {
                let before = text.iter().take(position);
                lines.push(1 + before.filter(|c| **c == '\n').count());
            }
            raw_string(&word, rest).unwrap_or(word.chars().count())
        } else {
            match rest {
                ['/', '/', ..] => rest.iter().take_while(|c| **c != '\n').count(),
                ['/', '*', ..] => block_comment(rest),
                ['"', ..] => quoted(rest, '"'),
                // A character, not a lifetime: escaped, or closed after one.
                ['\'', '\\', ..] | ['\'', _, '\'', ..] => quoted(rest, '\''),
                _ => 1,
            }
        };
        position += length.max(1);
    }
    lines
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Length of a literal that opens and closes with `quote`.
fn quoted(rest: &[char], quote: char) -> usize {
    let mut position = 1;
    while let Some(c) = rest.get(position) {
        match c {
            '\\' => position += 2,
            c if *c == quote => return position + 1,
            _ => position += 1,
        }
    }
    rest.len()
}

/// Length of a comment between `/*` and `*/`, which may hold others.
fn block_comment(rest: &[char]) -> usize {
    let (mut depth, mut position) = (0, 0);
    while position < rest.len() {
        match rest.get(position..position + 2) {
            Some(['/', '*']) => (depth, position) = (depth + 1, position + 2),
            Some(['*', '/']) => (depth, position) = (depth - 1, position + 2),
            _ => position += 1,
        }
        if depth == 0 {
            return position;
        }
    }
    rest.len()
}

/// Length of a raw string, if the word at the start of `rest` opens one.
fn raw_string(word: &str, rest: &[char]) -> Option<usize> {
    if !matches!(word, "r" | "br" | "cr") {
        return None;
    }
    let after = rest.get(word.len()..)?;
    let hashes = after.iter().take_while(|c| **c == '#').count();
    let body = word.len() + hashes + 1;
    if after.get(hashes) != Some(&'"') {
        return None;
    }
    let closing: Vec<char> = std::iter::once('"').chain("#".repeat(hashes).chars()).collect();
    let length = rest.get(body..)?.windows(closing.len()).position(|end| end == closing)?;
    Some(body + length + closing.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_told_from_comments_strings_and_longer_names() {
        let source = r##"// unsafe
/* unsafe /* unsafe */ unsafe */ #![forbid(unsafe_code)]
let s = "unsafe \" unsafe"; let r = r#"unsafe " unsafe"#; let b = br"unsafe";
fn f<'a>(x: &'a str) -> char { unsafe { g(x) } }
let quote = '"'; unsafe fn h() {} let escaped = '\'';
let unsafety = r#unsafe2; let raw = r; not_unsafe(); unsafe"##;
        assert_eq!(lines_with_token(source, "unsafe"), [4, 5, 6]);
        assert_eq!(lines_with_token("\"open unsafe", "unsafe"), [0usize; 0]);
        assert_eq!(lines_with_token("/* open unsafe", "unsafe"), [0usize; 0]);
    }
}
