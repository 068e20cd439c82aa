use serde_json::value::RawValue;

use super::{List, Pager, PagerLimits};
use crate::object::raw_of;

fn page(items: std::ops::Range<usize>, cursor: Option<&str>) -> Box<RawValue> {
    let mut page = serde_json::json!({ "tools": items.collect::<Vec<_>>() });
    if let Some(cursor) = cursor {
        page["nextCursor"] = cursor.into();
    }
    raw_of(&page)
}

#[test]
fn two_hundred_and_fifty_tools_in_pages_of_fifty_are_all_read() {
    let mut pager = Pager::new(List::Tools, PagerLimits::default());
    let mut asked = Vec::new();
    while let Some(params) = pager.next_params() {
        asked.push(params.map(|params| params.get().to_owned()));
        let start = 50 * pager.pages();
        let cursor = format!("c{start}");
        pager.accept(&page(start..start + 50, (start < 200).then_some(&cursor))).unwrap();
    }
    assert_eq!(asked.len(), 5);
    assert_eq!((asked[0].as_deref(), asked[1].as_deref()), (None, Some(r#"{"cursor":"c0"}"#)));
    let items = pager.into_items();
    assert_eq!((items.len(), items[249].get()), (250, "249"));
}

#[test]
fn an_empty_cursor_is_followed() {
    let mut pager = Pager::new(List::Tools, PagerLimits::default());
    pager.accept(&page(0..1, Some(""))).unwrap();
    assert_eq!(pager.next_params().unwrap().unwrap().get(), r#"{"cursor":""}"#);
}

#[test]
fn a_cursor_that_came_before_is_refused() {
    let mut pager = Pager::new(List::Tools, PagerLimits::default());
    pager.accept(&page(0..1, Some("a"))).unwrap();
    pager.accept(&page(1..2, Some("b"))).unwrap();
    let error = pager.accept(&page(2..3, Some("a"))).unwrap_err();
    assert_eq!(error.to_string(), "tools/list: the cursor \"a\" came before");
}

#[test]
fn pages_and_items_are_limited() {
    let limits = PagerLimits { pages: 2, items: 3, ..PagerLimits::default() };
    let mut pager = Pager::new(List::Tools, limits);
    pager.accept(&page(0..2, Some("a"))).unwrap();
    assert!(pager.accept(&page(2..3, Some("b"))).unwrap_err().to_string().contains("more than 2 pages"));
    assert!(pager.accept(&page(2..5, None)).unwrap_err().to_string().contains("more than 3 items"));
    pager.accept(&page(2..3, None)).unwrap();
    assert!(pager.next_params().is_none());
}

#[test]
fn a_result_without_the_list_is_refused() {
    let mut pager = Pager::new(List::Prompts, PagerLimits::default());
    let error = pager.accept(&page(0..1, None)).unwrap_err();
    assert_eq!(error.to_string(), "prompts/list: \"prompts\" must be an array");
}
