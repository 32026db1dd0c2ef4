//! An OCI image with systemd and a runner in it is a template once it is exported: nothing of ours is in it.

use contract::event::{JobResult, What};
use lab::Recipe;

use crate::{
    assert_nothing_left,
    host::{Host, HostConfig},
};

/// The first container builds an image from the tree it runs in, without what the host brought, and exports it; the
/// others report what they are made of.
const JOB: &str = r#"
say "Listening for Jobs"
say "Running job: image"
if [ "$(hostname)" = j0000821 ]; then
    set -ex
    mkdir /tmp/image
    printf 'FROM scratch\nADD root.tar /\nRUN echo "made by a build" > /made\nCMD ["/sbin/init"]\n' > /tmp/image/Dockerfile
    sudo tar -C / --one-file-system --exclude=./tmp --exclude=./etc/systemd/system/gha-runner-guest.service \
        --exclude=./etc/systemd/system/basic.target.wants/gha-runner-guest.service --exclude=./usr/lib/gha-runner-guest \
        --exclude=./usr/bin/docker* --exclude=./usr/sbin/dockerd --exclude=./usr/bin/containerd* \
        -c . > /tmp/image/root.tar
    docker build --quiet --tag systemd /tmp/image
    docker export "$(docker create systemd)" > /tmp/exported.tar
    sudo mv /tmp/exported.tar /exported.tar
    say "Job image completed with result: Succeeded"
    exec sleep 1000
fi
echo "this container was $(cat /made)"
echo "the host brought $(gha=/usr/lib/gha-runner-guest; [ -x $gha ] && $gha --version)"
say "Job image completed with result: Succeeded"
"#;

#[test]
fn an_image_that_docker_exports_boots_and_runs_a_job_with_nothing_of_ours_in_it() {
    let class = "[class.medium.docker]\nenable = true\n".to_owned();
    let Some(host) =
        Host::boot_with(&HostConfig { job: JOB.into(), tree: Recipe::DOCKER, class, ..HostConfig::default() })
    else {
        return;
    };
    let before = host.lab.leftovers().unwrap();
    host.hand_over("j0000821", 1);
    host.start("j0000821").unwrap();
    host.wait_for("j0000821", &What::JobEnded { result: JobResult::Succeeded });
    let ours = host
        .lab
        .shell(
            "set -e
             mkdir -p /var/lib/machines/exported
             tar -C /var/lib/machines/exported --numeric-owner -xf /var/lib/gha-runner-sandbox/j0000821/root/exported.tar
             cd /var/lib/machines/exported
             find usr/lib/gha-runner-guest etc/systemd/system -name 'gha-runner*' 2>/dev/null || true",
        )
        .unwrap();
    assert_eq!(ours.trim(), "", "the image has something of ours");
    host.stop("j0000821");
    host.ending("j0000821");
    host.set_template("/var/lib/machines/exported");
    host.hand_over("j0000822", 2);
    host.start("j0000822").unwrap();
    host.wait_for("j0000822", &What::JobEnded { result: JobResult::Succeeded });
    host.ending("j0000822");
    let journal = host.journal("j0000822");
    assert!(journal.contains("this container was made by a build"), "{journal}");
    assert!(journal.contains(&format!("the host brought gha-runner-guest {}", env!("CARGO_PKG_VERSION"))), "{journal}");
    assert_nothing_left(&host, &before);
}
