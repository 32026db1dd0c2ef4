use super::*;
use forge::github::scale_set::Statistics;

const NOW: Mono = Mono::after_start(Duration::from_secs(1000));

fn seconds(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn set() -> Set {
    let request = SetRequest { name: "h-small".to_owned(), labels: vec!["x".to_owned()], runner_group: None };
    Set::new(request, Assignments::default())
}

/// Open and heard, with so many jobs counted.
fn heard(assigned: u32) -> Set {
    let mut set = set();
    set.mode = Mode::Open;
    set.as_of = Some(NOW);
    set.assignments.reconcile(Statistics { assigned_jobs: assigned, ..Statistics::default() }, seconds(1000));
    set
}

fn error(kind: ErrorKind) -> ForgeError {
    ForgeError::new(kind, "why")
}

#[test]
fn hundreds_of_discovered_repositories_have_no_listener_each_unless_the_class_asks_for_it() {
    for (intake, discovered, wanted) in [
        (Intake::Auto, false, true),
        (Intake::Auto, true, false),
        (Intake::ScaleSet, true, true),
        (Intake::ScaleSet, false, true),
        (Intake::Polling, false, false),
        (Intake::Polling, true, false),
    ] {
        assert_eq!(wants_set(intake, discovered), wanted, "{intake:?} {discovered}");
    }
}

#[test]
fn a_set_that_is_refused_for_good_is_asked_for_once_an_hour_and_one_that_fails_soon_again() {
    for kind in [ErrorKind::Unauthorized, ErrorKind::NotFound, ErrorKind::Refused, ErrorKind::Quarantined] {
        assert_eq!(after_failure(&error(kind), 1), (Mode::Refused("why".to_owned()), seconds(3600)), "{kind:?}");
    }
    for kind in
        [ErrorKind::Unavailable, ErrorKind::RateLimited(seconds(9)), ErrorKind::Paced(seconds(9)), ErrorKind::Conflict]
    {
        let pauses: Vec<u64> = [1, 2, 3, 20].map(|failures| after_failure(&error(kind), failures).1.as_secs()).into();
        assert_eq!(pauses, [10, 20, 40, 600], "{kind:?}");
        assert_eq!(after_failure(&error(kind), 1).0, Mode::Unavailable("why".to_owned()), "{kind:?}");
    }
}

#[test]
fn nothing_is_due_for_a_set_that_is_open_being_opened_or_given_back() {
    let mut set = set();
    assert_eq!(set.due(), Some(Mono::START), "a new one is opened at once");
    set.opening = true;
    assert_eq!(set.due(), None);
    set.opening = false;
    for mode in [Mode::Open, Mode::Released] {
        set.mode = mode;
        assert_eq!(set.due(), None);
    }
    (set.mode, set.next_try) = (Mode::Refused(String::new()), NOW);
    assert_eq!(set.due(), Some(NOW));
}

#[test]
fn there_is_room_from_when_the_forge_was_told_of_more_than_it_counts_until_it_is_not() {
    let mut set = heard(2);
    set.told(2, NOW);
    assert_eq!(set.room_since, None, "all of it is made use of");
    set.told(3, NOW + seconds(1));
    set.told(5, NOW + seconds(2));
    assert_eq!(set.room_since, Some(NOW + seconds(1)), "since the first time");
    assert_eq!(*set.capacity.borrow(), 5);
    set.told(2, NOW + seconds(3));
    set.told(3, NOW + seconds(4));
    assert_eq!(set.room_since, Some(NOW + seconds(4)), "a host that was full begins anew");
}

#[test]
fn a_set_that_is_not_heard_could_not_have_been_assigned_anything() {
    let (mut unheard, mut failing, mut refused) = (heard(0), heard(0), heard(0));
    unheard.as_of = None;
    failing.failing_since = Some((NOW, Wall::default()));
    refused.mode = Mode::Refused(String::new());
    for mut set in [unheard, failing, refused] {
        set.told(5, NOW);
        assert_eq!(set.room_since, None, "{set:?}");
    }
}

#[test]
fn the_words_of_a_sets_messages_become_those_of_rest() {
    for (said, known) in [
        ("succeeded", Some("success")),
        ("Failed", Some("failure")),
        ("canceled", Some("cancelled")),
        ("cancelled", Some("cancelled")),
        ("pondered", None),
        ("", None),
    ] {
        assert_eq!(conclusion(said), known, "{said}");
    }
}
