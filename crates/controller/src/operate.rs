//! Doing what an operator asks for.

use tracing::info;

use super::{
    operation::{Denied, Done, Operation, OperatorOrder},
    parts::Parts,
    plan::{ScopeView, Waiting, may_boot},
    ports::World,
    time::Now,
};

/// Does it, and answers whoever asked.
pub fn operate<W: World>(parts: &mut Parts<'_, W>, order: OperatorOrder, stopping: bool, now: Now) {
    let result = match &order.operation {
        Operation::Drain { class } => parts.classes.set_drained(class.as_deref(), true),
        Operation::Resume { class } => resume(parts, class.as_deref(), now),
        Operation::Stop { container } => parts.fleet.stop_by_operator(container, now),
        Operation::Provision { repo, class } => provision(parts, repo, class.as_deref(), stopping, now),
    };
    match &result {
        Ok(done) => info!(by = order.by, "operator: {}", done.message),
        Err(denied) => info!(by = order.by, operation = ?order.operation, "operator: denied: {denied}"),
    }
    // Who asked may have gone away: it is done all the same.
    let _ = order.answer.send(result);
}

/// What is resumed is also tried again at once where it failed.
fn resume<W: World>(parts: &mut Parts<'_, W>, class: Option<&str>, now: Now) -> Result<Done, Denied> {
    let done = parts.classes.set_drained(class, false)?;
    parts.classes.try_again(class);
    if class.is_none() {
        parts.intake.try_again(now);
    }
    Ok(done)
}

fn provision<W: World>(
    parts: &mut Parts<'_, W>,
    repo: &str,
    class: Option<&str>,
    stopping: bool,
    now: Now,
) -> Result<Done, Denied> {
    let scope = parts.intake.scope_named(repo, now)?;
    if let Some(name) = class {
        parts.classes.check_known(name)?;
    }
    let snapshot = parts.snapshot(stopping, now);
    let mut views = snapshot.classes.iter().filter(|view| scope.allows(&view.name));
    let view = match class {
        None => views.next(),
        Some(name) => views.find(|view| view.name == name),
    };
    let Some(view) = view else {
        return Err(Denied::Conflict(format!("class {} does not serve {}", class.unwrap_or("-"), scope.name)));
    };
    may_boot(&snapshot, view, &scope).map_err(|why| Denied::Conflict(refusal(why, &view.name, &scope, stopping)))?;
    let name = view.name.clone();
    let set = snapshot.sets.iter().any(|set| set.class == name && set.scope == scope.name);
    match parts.boot(name.clone(), scope.name.clone(), set, None, now) {
        Some(container) => Ok(Done {
            message: format!("{container} boots: class {name}, registered with {}", scope.name),
            container: Some(container.to_string()),
        }),
        None => Err(Denied::Failed("its record cannot be written; see the journal".to_owned())),
    }
}

fn refusal(why: Waiting, class: &str, scope: &ScopeView, stopping: bool) -> String {
    let scope = &scope.name;
    match why {
        Waiting::Drained if stopping => "the controller is stopping".to_owned(),
        Waiting::Drained => format!("class {class} or the host is drained. Remedy: resume it"),
        Waiting::Outdated => format!("the forge refuses the runner of class {class}. Remedy: update its template"),
        Waiting::Held => format!("class {class} or registration with {scope} pauses after failures; see status"),
        Waiting::Strained => "the host is short of disk or under pressure; see status".to_owned(),
        Waiting::TargetLimit => format!("the target of {scope} has as many containers as it may"),
        _ => format!("the host or class {class} is full"),
    }
}
