//! Discounts where a part of the period takes more back than it uses.

use super::versions::{check, usage_price};

/// 100 units in the first half of June, and these in the second.
fn usage(then: &str, expected: &str) -> String {
    format!(
        "lines = {{ a = \"{expected}\" }}\n[usage]\na = [{{ quantity = \"100\", time = \"2026-06-10T00:00:00Z\" }}, \
         {{ quantity = \"{then}\", time = \"2026-06-20T00:00:00Z\" }}]\n"
    )
}

fn discounted(unit: &str, off: &str) -> String {
    let price = usage_price("a", unit, "");
    format!("{price}[[discount]]\nid = \"off\"\napplies = [\"a\"]\n{off}\n")
}

#[test]
fn a_discount_does_not_make_dearer_what_is_taken_back() {
    let plain = usage_price("a", "1.00", "");
    let tenth = discounted("1.00", "percent = \"10\"");
    let thirty = discounted("1.00", "amount = \"30.00\"");
    for (versions, then, expected) in [
        // Taken back at the price of its time: 100 - 45.
        ([&plain, &tenth], "-50", "55.00"),
        ([&tenth, &plain], "-50", "40.00"),
        ([&tenth, &tenth], "-50", "45.00"),
        // The cumulative never comes to less than nothing.
        ([&tenth, &plain], "-100", "0.00"),
        ([&tenth, &plain], "-95", "0.00"),
        ([&plain, &tenth], "-100", "10.00"),
        // An amount goes off once, and off what is charged.
        ([&thirty, &thirty], "-50", "20.00"),
        ([&thirty, &thirty], "-80", "0.00"),
        ([&plain, &thirty], "-50", "50.00"),
        ([&plain, &thirty], "50", "120.00"),
    ] {
        check([versions[0], versions[1]], "", "", &usage(then, expected));
    }
}
