use super::Tail;

#[test]
fn only_the_newest_bytes_are_kept() {
    let tail = Tail::new(4);
    tail.push(b"ab");
    assert_eq!(tail.text(), "ab");
    tail.push(b"cde");
    assert_eq!(tail.text(), "bcde");
    tail.push(b"0123456789");
    assert_eq!(tail.text(), "6789");
}
