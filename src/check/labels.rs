//! Labels that make jobs go where nobody meant them to.

use contract::Labels;
use settings::{Class, ForgeKind, Settings};

use super::Finding;

/// How labels of runners begin that GitHub hosts itself: a job that names one of them runs there as well as here.
const HOSTED: [&str; 3] = ["ubuntu-", "windows-", "macos-"];

/// Clashes among the classes that serve a target, and with runners of others.
pub fn clashes(settings: &Settings) -> Vec<Finding> {
    let mut findings = Vec::new();
    for class in settings.classes.values().filter(|class| class.forge == ForgeKind::Github) {
        let hosted = |label: &&String| HOSTED.iter().any(|hosted| label.to_lowercase().starts_with(hosted));
        for label in class.labels.iter().filter(hosted) {
            findings.push(Finding::warning(
                format!("class.{}.labels", class.name),
                format!("{label:?} is a label of runners that GitHub hosts, so its jobs go there as well"),
                "use a label of your own",
            ));
        }
    }
    let classes: Vec<&Class> = settings.classes.values().collect();
    for (i, one) in classes.iter().enumerate() {
        for other in &classes[i + 1..] {
            if settings.targets.iter().any(|target| target.has_class(&one.name) && target.has_class(&other.name)) {
                findings.extend(clash(one, other));
            }
        }
    }
    findings
}

/// Two classes for the same jobs are a mistake; one that can stand in for the other is worth knowing.
fn clash(one: &Class, other: &Class) -> Option<Finding> {
    let (a, b) = (labels(one), labels(other));
    if a == b {
        return Some(Finding::warning(
            format!("class.{}.labels", one.name),
            format!("the same labels as class {}: a forge cannot tell their jobs apart", other.name),
            "give each class a label that the other has not, or let them serve different targets",
        ));
    }
    let (small, large) = match (b.have_all(&a), a.have_all(&b)) {
        (true, _) => (one, other),
        (_, true) => (other, one),
        _ => return None,
    };
    Some(Finding::warning(
        format!("class.{}.labels", large.name),
        format!(
            "holds every label of class {}, so the forge may give a job meant for {} to a runner of {}",
            small.name, small.name, large.name
        ),
        "nothing, if a larger container for a small job does no harm; else leave one common label out",
    ))
}

fn labels(class: &Class) -> Labels {
    class.offers()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use settings::check::check;

    fn settings(classes: &str, target: &str) -> Settings {
        let text = format!("token_file = \"/run/token\"\n[[target]]\nrepo = \"o/r\"\n{target}\n{classes}");
        check(toml::from_str(&text).unwrap()).unwrap()
    }

    fn said(classes: &str, target: &str) -> Vec<String> {
        clashes(&settings(classes, target)).iter().map(ToString::to_string).collect()
    }

    const SMALL: &str = "[class.small]\nlabels = [\"self-hosted\", \"Nix\"]\n";

    #[test]
    fn classes_with_labels_of_their_own_do_not_clash() {
        assert_eq!(said(&format!("{SMALL}[class.gpu]\nlabels = [\"self-hosted\", \"gpu\"]\n"), ""), [""; 0]);
    }

    #[test]
    fn two_classes_with_the_same_labels_are_told_whatever_their_case() {
        let said = said(&format!("{SMALL}[class.twin]\nlabels = [\"nix\", \"Self-Hosted\"]\n"), "");
        assert!(said.len() == 1 && said[0].contains("class.small.labels: the same labels as class twin"), "{said:?}");
    }

    #[test]
    fn a_class_that_can_stand_in_for_another_is_told() {
        let classes = format!("{SMALL}[class.large]\nlabels = [\"self-hosted\", \"nix\", \"large\"]\n");
        let all = said(&classes, "");
        assert!(all.len() == 1 && all[0].contains("class.large.labels: holds every label of class small"), "{all:?}");
        assert_eq!(said(&classes, "classes = [\"small\"]"), [""; 0], "they serve no target together");
    }

    #[test]
    fn a_label_of_hosted_runners_is_told() {
        let said = said("[class.a]\nlabels = [\"Ubuntu-latest\"]\n", "");
        assert!(said.len() == 1 && said[0].contains("runners that GitHub hosts"), "{said:?}");
    }
}
