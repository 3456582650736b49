//! Properties of every header.

use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn a_header_is_refused_or_kept_as_it_is(name in ".{0,6}|[a-z:\\- \r\n]{0,8}", value in ".{0,12}|[a-z \r\n\t]{0,8}") {
        let mut headers = Headers::new();
        match headers.insert(&name, &value) {
            Err(_) => prop_assert!(headers.is_empty()),
            Ok(()) => {
                prop_assert!(name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':') && !name.is_empty());
                prop_assert!(value.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte)));
                prop_assert_eq!(headers.get(&name), Some(value.as_str()));
                prop_assert_eq!(headers.get(&name.to_ascii_uppercase()), Some(value.as_str()));
                prop_assert_eq!(headers.iter().count(), 1);
            }
        }
    }

    #[test]
    fn a_visible_name_and_a_value_on_one_line_are_accepted(name in "[!-9;-~]{1,20}", value in "[ -~\t]{0,40}") {
        prop_assert!(Headers::new().insert(&name, &value).is_ok());
    }

    #[test]
    fn all_spellings_of_a_name_are_found(values in proptest::collection::vec(("[aA][bB]", "[a-z]{0,3}"), 0..6)) {
        let mut map = async_nats::HeaderMap::new();
        for (name, value) in &values {
            map.append(name.as_str(), value.as_str());
        }
        let headers = Headers::received(map);
        prop_assert_eq!(headers.get_all("ab").count(), values.len());
        prop_assert_eq!(headers.get("zz"), None);
    }
}
