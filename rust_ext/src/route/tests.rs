//! The ladder on the shipped rules, and rules that are refused.

use super::*;

const RULES: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../actors/knowledge/route.toml"
));

fn calm() -> Situation {
    Situation {
        priority: Priority::Normal,
        has_needs: true,
        asks: true,
        confidence: Some(0.6),
        deadline_s: 15.0,
        node_only: false,
        battery_percent: Some(90.0),
        free_memory_mb: Some(1000.0),
        model_ready: Some(true),
        link: Link::Down,
        neighbour: None,
        within_budget: true,
    }
}

fn next(change: impl FnOnce(&mut Situation)) -> Next {
    let mut situation = calm();
    change(&mut situation);
    let rules = Rules::parse(RULES).expect("the shipped rules");
    let decision = rules.decide(&situation);
    assert!(!decision.reason.is_empty());
    decision.next
}

#[test]
fn an_emergency_gets_a_template_whatever_else_is_true() {
    let worst = |s: &mut Situation| {
        s.priority = Priority::Emergency;
        s.battery_percent = Some(1.0);
        s.free_memory_mb = Some(1.0);
        s.deadline_s = 0.0;
        s.confidence = Some(1.0);
        s.link = Link::Up;
    };
    assert_eq!(next(worst), Next::Template);
}

#[test]
fn confidence_decides_between_verbatim_model_and_unsure() {
    assert_eq!(next(|s| s.confidence = None), Next::Rag);
    assert_eq!(next(|s| s.confidence = Some(f64::NAN)), Next::Rag);
    assert_eq!(next(|s| s.confidence = Some(0.75)), Next::Verbatim);
    assert_eq!(next(|s| s.confidence = Some(0.7499)), Next::SmallModel);
    assert_eq!(next(|s| s.confidence = Some(0.5)), Next::SmallModel);
    assert_eq!(next(|s| s.confidence = Some(0.4999)), Next::Unsure);
}

#[test]
fn below_the_threshold_only_chatter_meets_the_small_model() {
    let chatter = |s: &mut Situation| {
        s.confidence = Some(0.1);
        s.has_needs = false;
    };
    assert_eq!(next(chatter), Next::SmallModel);
    assert_eq!(
        next(|s| {
            chatter(s);
            s.priority = Priority::Urgent;
        }),
        Next::Unsure
    );
    assert_eq!(
        next(|s| {
            chatter(s);
            s.model_ready = Some(false);
        }),
        Next::Unsure
    );
}

#[test]
fn without_the_model_the_near_passage_is_sent_as_written() {
    assert_eq!(next(|s| s.model_ready = Some(false)), Next::Verbatim);
    assert_eq!(next(|s| s.battery_percent = Some(29.0)), Next::Verbatim);
    assert_eq!(next(|s| s.free_memory_mb = Some(99.0)), Next::Verbatim);
    assert_eq!(next(|s| s.deadline_s = 2.9), Next::Verbatim);
}

#[test]
fn unknown_state_counts_as_the_worst_that_is_useful() {
    let unknown = |s: &mut Situation| {
        s.battery_percent = None;
        s.free_memory_mb = None;
        s.model_ready = None;
        s.link = Link::Unknown;
    };
    assert_eq!(next(unknown), Next::SmallModel);
    assert_eq!(
        next(|s| {
            unknown(s);
            s.link = Link::Up;
        }),
        Next::BigModel,
        "a node without a gauge may use its link"
    );
}

#[test]
fn the_centre_answers_when_link_battery_time_privacy_and_money_allow() {
    let up = |s: &mut Situation| s.link = Link::Up;
    assert_eq!(next(up), Next::BigModel);
    let obstacles: [fn(&mut Situation); 4] = [
        |s| s.node_only = true,
        |s| s.battery_percent = Some(49.0),
        |s| s.deadline_s = 7.9,
        |s| s.within_budget = false,
    ];
    for obstacle in obstacles {
        assert_eq!(
            next(|s| {
                up(s);
                obstacle(s);
            }),
            Next::SmallModel
        );
    }
    assert_eq!(
        next(|s| {
            up(s);
            s.confidence = Some(0.1);
        }),
        Next::BigModel
    );
}

#[test]
fn a_question_waits_for_the_link_unless_something_forbids() {
    let waits = |change: fn(&mut Situation)| {
        let mut situation = calm();
        change(&mut situation);
        let rules = Rules::parse(RULES).expect("the shipped rules");
        rules.decide(&situation).wait
    };
    assert!(waits(|_| ()));
    assert!(waits(|s| s.confidence = Some(0.1)));
    let none: [fn(&mut Situation); 9] = [
        |s| s.link = Link::Up,
        |s| s.link = Link::Unknown,
        |s| s.node_only = true,
        |s| s.battery_percent = Some(49.0),
        |s| s.battery_percent = Some(10.0),
        |s| s.within_budget = false,
        |s| s.confidence = Some(0.9),
        |s| s.priority = Priority::Emergency,
        |s| {
            s.has_needs = false;
            s.asks = false;
        },
    ];
    for forbids in none {
        assert!(!waits(forbids));
    }
}

#[test]
fn a_neighbour_is_asked_for_a_question_or_a_need_and_without_a_link() {
    let far = |s: &mut Situation| {
        s.confidence = Some(0.1);
        s.neighbour = Some(Neighbour::Link);
        s.priority = Priority::Urgent;
    };
    assert_eq!(next(far), Next::Mesh);
    assert_eq!(
        next(|s| {
            far(s);
            s.priority = Priority::Normal;
            s.has_needs = false;
            s.asks = false;
        }),
        next(|s| {
            s.confidence = Some(0.1);
            s.has_needs = false;
            s.asks = false;
        })
    );
    assert_eq!(
        next(|s| {
            far(s);
            s.priority = Priority::Normal;
            s.has_needs = false;
            s.asks = true;
        }),
        Next::Mesh
    );
    assert_eq!(
        next(|s| {
            far(s);
            s.node_only = true;
        }),
        Next::Unsure
    );
}

#[test]
fn a_neighbours_model_is_asked_when_this_nodes_own_cannot_answer() {
    let far = |change: fn(&mut Situation)| {
        next(|s| {
            s.confidence = Some(0.1);
            s.neighbour = Some(Neighbour::Model);
            s.priority = Priority::Urgent;
            change(s);
        })
    };
    assert_eq!(far(|_| ()), Next::Unsure, "the own one could say as much");
    let unable = |s: &mut Situation| s.model_ready = Some(false);
    let obstacles: [fn(&mut Situation); 3] = [
        unable,
        |s| s.free_memory_mb = Some(99.0),
        |s| s.battery_percent = Some(29.0),
    ];
    for obstacle in obstacles {
        assert_eq!(far(obstacle), Next::Mesh);
    }
    let forbidden: [fn(&mut Situation); 6] = [
        |s| s.node_only = true,
        |s| s.battery_percent = Some(19.9),
        |s| s.deadline_s = 7.9,
        |s| s.link = Link::Up,
        |s| s.neighbour = None,
        |s| {
            s.priority = Priority::Normal;
            s.has_needs = false;
            s.asks = false;
        },
    ];
    for forbids in forbidden {
        let decided = next(|s| {
            s.confidence = Some(0.1);
            s.neighbour = Some(Neighbour::Model);
            s.priority = Priority::Urgent;
            s.model_ready = Some(false);
            forbids(s);
        });
        assert_ne!(decided, Next::Mesh);
    }
    assert_eq!(
        far(|s| {
            s.model_ready = Some(false);
            s.confidence = Some(0.6);
        }),
        Next::Verbatim,
        "a near passage is an answer"
    );
}

#[test]
fn on_an_empty_battery_no_neighbour_is_asked() {
    let urgent = |percent: f64| {
        next(|s| {
            s.confidence = Some(0.1);
            s.neighbour = Some(Neighbour::Link);
            s.priority = Priority::Urgent;
            s.battery_percent = Some(percent);
        })
    };
    assert_eq!(urgent(20.0), Next::Mesh);
    assert_eq!(urgent(19.9), Next::Unsure);
}

#[test]
fn the_reason_says_why_a_centre_that_is_there_was_not_asked() {
    let rules = Rules::parse(RULES).expect("the shipped rules");
    let reason = |change: fn(&mut Situation)| {
        let mut situation = calm();
        situation.link = Link::Up;
        change(&mut situation);
        rules.decide(&situation).reason
    };
    assert_eq!(
        reason(|_| ()),
        "near, the centre answers: 0.50 <= 0.60 < 0.75"
    );
    let low = reason(|s| s.battery_percent = Some(49.0));
    assert!(
        low.ends_with("; not infer.large: battery 49 % is below 50 %"),
        "{low}"
    );
    assert!(reason(|s| s.node_only = true).ends_with("; not infer.large: node only"));
    assert!(reason(|s| s.within_budget = false).ends_with("; not infer.large: no money"));
    assert!(reason(|s| s.deadline_s = 7.9).ends_with("7.9 s left"));
}

#[test]
fn a_low_battery_shortens_routine_answers_only() {
    let rules = Rules::parse(RULES).expect("the shipped rules");
    assert_eq!(rules.brevity(Priority::Normal, Some(30.0)), None);
    let says = rules.brevity(Priority::Normal, Some(29.0));
    assert_eq!(says.as_deref(), Some("battery 29 % is below 30 %"));
    assert_eq!(rules.brevity(Priority::Normal, None), None);
    assert_eq!(rules.brevity(Priority::Urgent, Some(1.0)), None);
    assert_eq!(rules.brevity(Priority::Emergency, Some(1.0)), None);
}

#[test]
fn the_model_is_told_why_it_may_not_run() {
    let rules = Rules::parse(RULES).expect("the shipped rules");
    assert_eq!(rules.model_obstacle(Some(30.0), Some(100.0)), None);
    assert_eq!(rules.model_obstacle(None, Some(f64::NAN)), None);
    let says = |battery, memory| {
        rules
            .model_obstacle(Some(battery), Some(memory))
            .expect("an obstacle")
    };
    assert_eq!(says(29.0, 900.0), "battery 29 % is below 30 %");
    assert_eq!(says(90.0, 99.0), "99 MB free are below 100 MB");
    assert_eq!(rules.battery_limits().at, [20.0, 30.0, 50.0]);
    assert_eq!(rules.memory_limits().at, [100.0]);
}

#[test]
fn an_empty_battery_serves_flash_and_priority_only() {
    let empty = |confidence| {
        next(|s| {
            s.battery_percent = Some(19.0);
            s.link = Link::Up;
            s.confidence = confidence;
        })
    };
    assert_eq!(
        empty(None),
        Next::Rag,
        "looking up costs a hundredth of the text that carries the answer"
    );
    assert_eq!(empty(Some(0.9)), Next::Verbatim);
    assert_eq!(empty(Some(0.6)), Next::Verbatim);
    assert_eq!(empty(Some(0.1)), Next::LowBattery);
    assert_eq!(
        next(|s| {
            s.battery_percent = Some(19.0);
            s.priority = Priority::Urgent;
        }),
        Next::Verbatim
    );
}

#[test]
fn wrong_rules_are_refused_with_the_reason() {
    for (from, to, says) in [
        ("sure = 0.75", "sure = 0.25", "unsure <= sure"),
        ("link_from = 50", "link_from = 5", "battery"),
        ("small_model = 3.0", "small_model = -1.0", "not negative"),
        (
            "small_model = 3.0",
            "small_model = 9.0",
            "small_model <= big_model",
        ),
        ("unknown = 200", "unknwon = 200", "unknown field"),
        ("margin = 5", "margin = -5", "battery"),
        ("[memory]", "[memory", "route rules"),
        (
            "needs or urgent",
            "need or urgent",
            "no fact is called \"need\"",
        ),
        ("needs or urgent", "needs or urgent and asks", "mixes"),
        ("needs or urgent", "needs or", "was expected"),
        (
            "needs or urgent",
            "worth_asking",
            "facts are made of each other",
        ),
        (
            "when = \"far and worth_asking and",
            "when = \"near and far and",
            "it never decides",
        ),
        ("in_need = ", "urgent = ", "given already"),
        (
            "next = \"rag\"",
            "next = \"rga\"",
            "rule \"retrieve\": no next step",
        ),
        (
            "can = \"mesh\"",
            "can = \"mash\"",
            "no fact is called \"mash\"",
        ),
        ("when = \"link_down", "when = \"link_dwon", "late: no fact"),
    ] {
        let error = Rules::parse(&RULES.replacen(from, to, 1)).expect_err(to);
        assert!(error.to_string().contains(says), "{error}");
    }
}
