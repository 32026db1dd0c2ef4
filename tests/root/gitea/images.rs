//! Labels that name an image: steps run in it, by the container's own Docker.

use controller::cause::Cause;
use lab::Recipe;
use stage::{StageConfig, registry};

use crate::{ACME, MINUTE, REPO, config, finished, nothing_left, one_token, stage, workflow};

#[test]
fn a_label_with_an_image_runs_a_jobs_steps_in_it_and_a_plain_one_beside_it_does_not() {
    let mirror = registry::address();
    let base = config(&[ACME]);
    let config = StageConfig {
        tree: Recipe::DOCKER,
        classes: base.classes.replace("\"nix:host\"", "\"nix:host\", \"builder:docker://box:1\"")
            + &format!("[class.act.docker]\nenable = true\nmirror = \"{mirror}\"\n"),
        ..base
    };
    let Some((stage, gitea)) = stage(config, one_token) else { return };
    let _registry = registry::serve(&stage.lab).unwrap();
    let where_it_is = "if test -e /etc/debian_version; then echo in-the-container; else echo in-the-image; fi";
    let socket = "if test -e /var/run/docker.sock; then echo socket; else echo no-socket; fi";
    // The image has no bash.
    let in_it = |steps: &[&str]| format!("defaults:\n  run:\n    shell: sh\n{}", workflow("builder", steps));
    gitea.write(REPO, ".gitea/workflows/image.yml", &in_it(&[where_it_is, socket])).unwrap();
    gitea.write(REPO, ".gitea/workflows/fails.yml", &in_it(&["exit 3"])).unwrap();
    gitea.write(REPO, ".gitea/workflows/plain.yml", &workflow("nix", &[where_it_is])).unwrap();
    for (file, conclusion, cause, shown) in [
        ("image.yml", "success", Cause::Succeeded, &["in-the-image", "no-socket"][..]),
        ("fails.yml", "failure", Cause::JobFailed, &[]),
        ("plain.yml", "success", Cause::Succeeded, &["in-the-container"]),
    ] {
        let run = gitea.dispatch(REPO, file).unwrap();
        let done = gitea.wait_completed(REPO, run, MINUTE).unwrap();
        let log = gitea.log(REPO, done.id).unwrap();
        assert_eq!(done.conclusion.as_deref(), Some(conclusion), "{file}: {log}");
        assert_eq!(finished(&stage, done.id).cause, cause, "{file}");
        for words in shown {
            assert!(log.lines().any(|line| line.ends_with(&format!(" {words}"))), "{file}: {log}");
        }
    }
    nothing_left(&stage, &gitea);
}
