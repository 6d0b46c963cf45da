//! An agent that holds a page and does not get to it.

use super::{ALL, Application, home, sealed, signal, stop};

/// Stopped for more than two windows: what a window held that nobody looked at stays.
#[test]
fn a_maximum_outlives_windows_in_which_the_agent_stands_still() {
    let home = home(ALL);
    home.replace(
        "[[rule]]",
        "[[meter]]\nname = \"peak\"\nunit = \"1\"\naggregation = \"max\"\n[[rule]]",
    );
    let (agent, _) = home.run();
    let mut application = Application::start(&home, "peaks");
    application.wait_done();
    signal(&agent, "STOP");
    application.end();
    signal(&agent, "CONT");
    stop(agent);
    let (values, events) = sealed(&home)["acme/peak"];
    assert!(values >= 1000, "the maximum is gone: {values}");
    assert!(values < 3000 && events > 100, "{values} in {events}");
}
