//! Names in other alphabets: sanitised, unique, and the same tomorrow.

use std::collections::HashMap;

/// One name for each of `names`, in order.
///
/// A name that `sanitise` leaves alone keeps it. Names that would otherwise collide get eight hexadecimal digits of their own
/// hash, all of them, so that neither order nor count of the other names moves a name. At most `max_bytes` long.
pub(crate) fn unique<'a>(
    names: impl IntoIterator<Item = &'a str>,
    max_bytes: usize,
    sanitise: impl Fn(&str) -> String,
) -> Vec<String> {
    let wanted: Vec<(&str, String)> =
        names.into_iter().map(|name| (name, shorten(name, sanitise(name), max_bytes))).collect();
    let mut claims: HashMap<&str, usize> = HashMap::new();
    for (_, clean) in &wanted {
        *claims.entry(clean).or_default() += 1;
    }
    let mut taken: HashMap<String, ()> = HashMap::new();
    for (name, clean) in &wanted {
        if name == clean {
            taken.insert(clean.clone(), ());
        }
    }
    let mut unique = Vec::with_capacity(wanted.len());
    let mut kept: HashMap<&str, ()> = HashMap::new();
    for (name, clean) in &wanted {
        let own = name == clean && kept.insert(name, ()).is_none();
        if own || (claims[clean.as_str()] == 1 && !taken.contains_key(clean)) {
            taken.insert(clean.clone(), ());
            unique.push(clean.clone());
            continue;
        }
        let mut salt = 0_u32;
        let free = loop {
            let candidate = suffixed(name, clean, max_bytes, salt);
            if !taken.contains_key(&candidate) {
                break candidate;
            }
            salt += 1;
        };
        taken.insert(free.clone(), ());
        unique.push(free);
    }
    unique
}

/// A name of letters, digits and `_` that begins with a letter or one `_`: fit for GraphQL and for generated clients.
pub(crate) fn identifier(name: &str) -> String {
    let mut clean: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if clean.starts_with("__") {
        clean = format!("_{}", clean.trim_start_matches('_'));
    }
    let needs_head = clean.chars().next().is_none_or(|c| c.is_ascii_digit());
    if needs_head { format!("_{clean}") } else { clean }
}

/// `get_user-orders` as `GetUserOrders`.
pub(crate) fn pascal(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut upper = true;
    for c in name.chars() {
        if !c.is_ascii_alphanumeric() {
            upper = true;
            continue;
        }
        if upper {
            out.push(c.to_ascii_uppercase());
        } else {
            out.push(c);
        }
        upper = false;
    }
    if out.is_empty() || out.starts_with(|c: char| c.is_ascii_digit()) {
        out.insert(0, 'T');
    }
    out
}

/// `clean` with eight hexadecimal digits that stand for `name`.
pub(crate) fn hashed(name: &str, clean: &str) -> String {
    format!("{clean}_{:08x}", hash(name, 0))
}

/// FNV-1a, 32 bits: stable across builds, machines and years, which the standard hasher does not promise.
fn hash(name: &str, salt: u32) -> u32 {
    let mut hash = 0x811c_9dc5_u32 ^ salt;
    for byte in name.bytes() {
        hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    }
    hash
}

fn shorten(name: &str, clean: String, max_bytes: usize) -> String {
    if clean.len() <= max_bytes {
        return clean;
    }
    suffixed(name, &clean, max_bytes, 0)
}

fn suffixed(name: &str, clean: &str, max_bytes: usize, salt: u32) -> String {
    let mut end = clean.len().min(max_bytes.saturating_sub(9));
    while !clean.is_char_boundary(end) {
        end -= 1;
    }
    // One separator at most: GraphQL keeps names that begin with two underscores for itself.
    format!("{}_{:08x}", clean[..end].trim_end_matches('_'), hash(name, salt))
}

#[cfg(test)]
mod tests {
    use super::{identifier, pascal, unique};

    #[test]
    fn a_clean_name_keeps_itself_and_its_rivals_get_a_hash() {
        let names = unique(["get-user", "get_user", "get.user", "other-one"], 64, identifier);
        assert_eq!(names[1], "get_user");
        assert!(names[0].starts_with("get_user_") && names[2].starts_with("get_user_"));
        assert_ne!(names[0], names[2]);
        assert_eq!(names[3], "other_one");
    }

    #[test]
    fn order_moves_no_name() {
        let there = unique(["a-b", "a.b", "c"], 64, identifier);
        let back = unique(["c", "a.b", "a-b"], 64, identifier);
        assert_eq!(there, back.into_iter().rev().collect::<Vec<_>>());
    }

    #[test]
    fn a_long_name_is_cut_and_stays_unique() {
        let (a, b) = ("x".repeat(100) + "a", "x".repeat(100) + "b");
        let names = unique([a.as_str(), b.as_str()], 64, identifier);
        assert!(names.iter().all(|name| name.len() == 64));
        assert_ne!(names[0], names[1]);
    }

    #[test]
    fn equal_names_still_get_unequal_results() {
        let names = unique(["same", "same", "same"], 64, identifier);
        assert_eq!(names[0], "same");
        assert_ne!(names[1], names[2]);
    }

    #[test]
    fn identifiers_avoid_digits_and_double_underscores_in_front() {
        assert_eq!(identifier("__schema"), "_schema");
        assert_eq!(identifier("2fa"), "_2fa");
        assert_eq!(identifier(""), "_");
        assert_eq!(identifier("größe"), "gr__e");
        assert_eq!(pascal("get_user-orders"), "GetUserOrders");
        assert_eq!(pascal("§"), "T");
        assert!(unique(["~", "|"], 64, identifier).iter().all(|name| !name.starts_with("__")));
    }
}
