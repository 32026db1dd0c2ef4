//! The version of a forge's runner program, as text that several zones pass on.

/// Numbers with dots between them, as the forge's runner has them; nothing that means anything to a path or a page.
pub fn is_version(text: &str) -> bool {
    let number = |part: &str| (1..=8).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
    text.len() <= 32 && text.contains('.') && text.split('.').all(number)
}
