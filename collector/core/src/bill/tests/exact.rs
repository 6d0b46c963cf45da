//! Sums whose exact fractions are longer than the numbers, and lines that are too large: neither takes
//! the other lines of the bill with it.

use super::published::Case;

const PRIMES: [u32; 13] = [
    1009, 1013, 1019, 1021, 1031, 1033, 1039, 1049, 1051, 1061, 1063, 1069, 1087,
];

/// Prices quoted per numbers that have nothing in common, rounded with the invoice.
#[test]
fn prices_per_many_different_numbers_are_rounded_together() {
    let (mut meters, mut prices, mut usage) = (String::new(), String::new(), String::new());
    for prime in PRIMES {
        meters += &format!(
            "[[meter]]\nname = \"m{prime}\"\nunit = \"{{x}}\"\nscale = 0\naggregation = \"sum\"\n"
        );
        prices += &format!(
            "[[price]]\nid = \"p{prime}\"\nmeter = \"m{prime}\"\nmodel = \"per_unit\"\n\
             per = \"{prime} {{x}}\"\nunit = \"1.00\"\nrounding = {{ at = \"invoice\" }}\n"
        );
        usage += &format!("usage.m{prime} = \"100\"\n");
    }
    // 1.2482…
    Case {
        meters: &[&meters],
        card: &prices,
        profile: "",
        files: &[],
        test: &format!("{usage}net = \"1.25\"\n"),
    }
    .passes();
}

/// One line of 10^21 cannot be summed for certain: it is said, and the others are billed, discounts
/// and minimums over several lines included.
#[test]
fn a_line_that_is_too_large_is_unrated_alone() {
    let case = |quantity: &str| {
        Case {
            meters: &[
                "[[meter]]\nname = \"a\"\nunit = \"{x}\"\nscale = 0\naggregation = \"sum\"\n",
                "[[meter]]\nname = \"b\"\nunit = \"{x}\"\nscale = 0\naggregation = \"sum\"\n",
            ],
            card: r#"
[[price]]
id = "a"
meter = "a"
model = "per_unit"
per = "1 {x}"
unit = "1.00"

[[price]]
id = "b"
meter = "b"
model = "per_unit"
per = "1 {x}"
unit = "1.00"

[[discount]]
id = "half"
percent = "50"

[[minimum]]
id = "least"
amount = "20.00"
"#,
            profile: "",
            files: &[],
            test: &format!(
                "usage.a = \"{quantity}\"\nusage.b = \"10\"\nlines = {{ b = \"5.00\", \"minimum least\" = \"15.00\" }}\nnet = \"20.00\"\n"
            ),
        }
        .run()
    };
    assert_eq!(case("0"), Ok(()));
    let errors = case("1000000000000000000000").expect_err("it is said");
    // That is all there is to be said: the sums are as without it.
    assert!(errors.contains("a is not rated: "), "{errors}");
    assert!(!errors.contains("expected"), "{errors}");
}
