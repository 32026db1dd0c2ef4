//! Docker inside: what a job does with it works, two do it at once, and nothing of it is left, or just what is to be.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use contract::event::{JobResult, What};
use lab::{Cache, ForwardProxy, Place, Recipe, Suite, Tree};

use crate::{
    assert_nothing_left,
    host::{Host, HostConfig},
    served::Served,
};

/// An image without a registry: one static program under several names.
const IMAGE: &str = r#"
image() {
    mkdir -p /tmp/image/bin
    cp /bin/busybox /tmp/image/bin/
    for name in sh cat echo httpd wget sleep ls mknod; do ln -s busybox /tmp/image/bin/$name; done
    tar -C /tmp/image -c . | docker import - box > /dev/null
}
"#;

fn docker_host(job: &str, docker: &str) -> Option<Host> {
    let class = format!("[class.medium.docker]\nenable = true\n{docker}");
    Host::boot_with(&HostConfig { job: format!("{IMAGE}{job}"), tree: Recipe::DOCKER, class, ..HostConfig::default() })
}

#[test]
fn jobs_use_docker_each_their_own_and_leave_nothing() {
    let Some(host) = docker_host(
        r#"
        say "Listening for Jobs"
        say "Running job: docker"
        # This runner begins before the container's bus is there, which a real one does not.
        for _ in $(seq 100); do [ ! -S /run/dbus/system_bus_socket ] || break; sleep 0.05; done
        case "$(hostname)" in
        j0000801)
            echo "before: $(systemctl is-active docker.service containerd.service | tr '\n' ' ')"
            image
            docker run --detach box sleep 1000 > /dev/null
            # Until the host stops it.
            say "Job docker completed with result: Succeeded"
            trap 'docker ps --quiet | wc -l | sed "s/^/still runs: /"; exit 0' INT
            while :; do sleep 0.1; done
            ;;
        j0000802)
            set -ex
            image
            docker info --format 'driver: {{.Driver}}, mirrors: {{.RegistryConfig.Mirrors}}'
            docker run --rm box /bin/echo 'said in a container'
            docker run --rm --privileged box /bin/echo 'said in a privileged container'
            docker run --rm --init box /bin/echo 'said beside an init'
            echo "limits: $(ulimit -Sn) $(ulimit -Hn) $(ulimit -Hl)"
            files=$(ulimit -Hn) locked=$(ulimit -Hl)
            [ $locked = unlimited ] && locked=-1 || locked=$((locked * 1024))
            docker run --rm --ulimit memlock=$locked:$locked --ulimit nofile=$files:$files box sh -c 'echo "raised to $(ulimit -n)"'
            mkdir /tmp/build
            printf 'FROM box\nRUN echo "made by a build" > /made\nCMD ["/bin/cat", "/made"]\n' > /tmp/build/Dockerfile
            docker build --quiet --tag made /tmp/build
            docker run --rm made
            # As `services:` of a workflow: a network of the job's own, a side container with a published port.
            docker network create side
            docker network inspect --format 'side: {{(index .IPAM.Config 0).Subnet}}' side
            docker network inspect --format 'bridge: {{(index .IPAM.Config 0).Subnet}}' bridge
            docker run --detach --name web --network side --publish 8080:80 box \
                sh -c 'echo "served by $HOSTNAME" > /index.html; exec httpd -f -p 80 -h /' > /dev/null
            curl --silent --retry 20 --retry-connrefused --retry-delay 1 http://127.0.0.1:8080/ | sed 's/^/published: /'
            docker run --rm --network side box wget -q -O - http://web/ | sed 's/^/by name: /'
            cat > /tmp/build/docker-compose.yml <<-'END'
			version: "3"
			services:
			  web:
			    build: .
			    command: sh -c 'echo "served by compose" > /index.html; exec httpd -f -p 80 -h /'
			    ports: ["8081:80"]
			END
            cd /tmp/build
            docker-compose --no-ansi up --detach
            curl --silent --retry 20 --retry-connrefused --retry-delay 1 http://127.0.0.1:8081/
            docker-compose --no-ansi down
            say "Job docker completed with result: Succeeded"
            ;;
        j0000803)
            say "Job docker completed with result: Succeeded"
            echo "unused: $(systemctl is-active docker.socket docker.service containerd.service | tr '\n' ' ')"
            ;;
        esac
        "#,
        "mirror = \"http://mirror.invalid:5000\"",
    ) else {
        return;
    };
    let before = host.lab.leftovers().unwrap();
    host.hand_over("j0000801", 1);
    host.start("j0000801").unwrap();
    host.wait_for("j0000801", &What::JobEnded { result: JobResult::Succeeded });
    // While that one uses Docker, another does all of it.
    host.hand_over("j0000802", 2);
    let begun = Instant::now();
    host.start("j0000802").unwrap();
    host.wait_for("j0000802", &What::JobEnded { result: JobResult::Succeeded });
    println!("everything with Docker, beside another: {:.1?}", begun.elapsed());
    let ended = Instant::now();
    host.ending("j0000802");
    // What still runs in Docker is not waited for.
    assert!(ended.elapsed() < Duration::from_secs(8), "the container took {:.1?} to end", ended.elapsed());
    let journal = host.journal("j0000802");
    println!("{journal}");
    // As much as the lab's host has itself: it may be in a box that gives it less.
    let [files, locked] = ["open files", "locked memory"]
        .map(|what| host.lab.shell(&format!("grep 'Max {what}' /proc/1/limits | tr -s ' ' | cut -d' ' -f5")).unwrap());
    let files = files.parse::<u64>().map_or(1_048_576, |most| most.min(1_048_576));
    let locked = locked.parse::<u64>().map_or("unlimited".to_owned(), |most| (most >> 10).to_string());
    let (limits, raised) = (format!("limits: {} {files} {locked}", files.min(65_536)), format!("raised to {files}"));
    for line in [
        "driver: overlay2, mirrors: [http://mirror.invalid:5000/]",
        "said in a container",
        "said in a privileged container",
        "said beside an init",
        &limits,
        &raised,
        "made by a build",
        "side: 172.2",
        "bridge: 172.2",
        "published: served by",
        "by name: served by",
        "served by compose",
    ] {
        assert!(journal.lines().any(|found| found.contains(line) && !found.contains("+ ")), "{line}");
    }
    host.hand_over("j0000803", 3);
    host.start("j0000803").unwrap();
    host.ending("j0000803");
    let journal = host.journal("j0000803");
    assert!(journal.contains("unused: active inactive inactive"), "{journal}");
    host.stop("j0000801");
    host.ending("j0000801");
    let journal = host.journal("j0000801");
    assert!(journal.contains("before: inactive inactive") && journal.contains("still runs: 1"), "{journal}");
    assert_nothing_left(&host, &before);
}

#[test]
fn kept_images_are_found_by_the_next_job_of_the_target_and_by_nobody_else() {
    let Some(host) = docker_host(
        r#"
        say "Listening for Jobs"
        say "Running job: docker"
        echo "found: $(docker images --quiet | wc -l)"
        [ "$(hostname)" != j0000811 ] || image
        docker run --rm --pull never box /bin/echo 'said in a container' || true
        df --output=size --block-size=1M /var/lib/docker | tail -n 1 | sed 's/^ */megabytes: /'
        say "Job docker completed with result: Succeeded"
        [ "$(hostname)" != j0000813 ] || exec sleep 1000
        "#,
        "keep = true\nkeep_size = \"1G\"",
    ) else {
        return;
    };
    let before = host.lab.leftovers().unwrap();
    let run = |target: &str, name: &str, subnet: u32| {
        host.hand_over_for(target, name, subnet);
        host.start(name).unwrap_or_else(|error| panic!("{error}"));
        host.wait_for(name, &What::JobEnded { result: JobResult::Succeeded });
    };
    let found = |name: &str, expected: &str| {
        let journal = host.journal(name);
        assert!(journal.contains(&format!("found: {expected}")), "{name}: {journal}");
    };
    run("octo-org/hello", "j0000811", 1);
    host.ending("j0000811");
    found("j0000811", "0");
    // Another range of user ids, the same files.
    run("octo-org/hello", "j0000813", 3);
    found("j0000813", "1");
    let journal = host.journal("j0000813");
    assert!(journal.contains("said in a container"), "{journal}");
    let megabytes = journal.split("megabytes: ").nth(1).and_then(|rest| rest.split_whitespace().next());
    assert!(megabytes.unwrap().parse::<u32>().unwrap() < 1024, "{journal}");
    // At the same time, and for another repository: no waiting, and nothing of theirs.
    run("octo-org/hello", "j0000814", 4);
    found("j0000814", "0");
    run("octo-org/other", "j0000815", 5);
    found("j0000815", "0");
    host.stop("j0000813");
    for name in ["j0000813", "j0000814", "j0000815"] {
        assert_eq!(host.ending(name).left_behind, Vec::<String>::new());
    }
    let stores = host.lab.shell("cd /var/lib/gha-runner-stores; find . -type f | sort").unwrap();
    assert_eq!(stores, "./medium/octo-org+hello.0\n./medium/octo-org+hello.1\n./medium/octo-org+other.0");
    assert_eq!(host.lab.shell("stat -c %a /var/lib/gha-runner-stores").unwrap(), "700");
    // Loop devices are the machine's, so that those of another lab are among them; of its files none is deleted.
    host.lab
        .shell("rm -r /var/lib/gha-runner-stores; losetup --all | grep 'gha-runner-stores.*deleted' && exit 1 || true")
        .unwrap();
    assert_nothing_left(&host, &before);
}

#[test]
fn only_images_are_kept_whatever_ended_the_job_before() {
    let Some(host) = docker_host(
        r#"
        say "Listening for Jobs"
        say "Running job: docker"
        for _ in $(seq 100); do [ ! -S /run/dbus/system_bus_socket ] || break; sleep 0.05; done
        case "$(hostname)" in
        j0000831)
            image
            docker network create side > /dev/null
            docker volume create named > /dev/null
            docker run --detach --restart always --name service --network side --publish 8080:80 \
                --volume named:/named --volume /anonymous box \
                sh -c 'cat /bin/busybox /bin/busybox > /grown; echo mine > /named/file; exec httpd -f -p 80 -h /' > /dev/null
            docker run --name ended box echo done
            ;;
        *)
            echo "port: $(timeout 1 bash -c 'exec 3<>/dev/tcp/127.0.0.1/8080' 2> /dev/null && echo taken || echo free)"
            echo "found: $(docker images --quiet | wc -l) images, $(docker ps --all --quiet | wc -l) containers," \
                "$(docker volume ls --quiet | wc -l) volumes, $(docker network ls --quiet | wc -l) networks," \
                "$(sudo find /var/lib/docker -name grown | wc -l) files of theirs"
            docker run --rm --pull never --volume named:/named box sh -c 'echo "said in a container: $(ls /named)"'
            [ "$(hostname)" = j0000832 ] && head -c 205M /dev/urandom > /tmp/big \
                && tar -C /tmp -c big | docker import - big > /dev/null
            ;;
        esac
        say "Job docker completed with result: Succeeded"
        [ "$(hostname)" != j0000831 ] || exec sleep 1000
        "#,
        "keep = true\nkeep_size = \"256M\"",
    ) else {
        return;
    };
    let before = host.lab.leftovers().unwrap();
    let run = |name: &str| {
        host.hand_over(name, 1);
        host.start(name).unwrap_or_else(|error| panic!("{error}"));
        host.wait_for(name, &What::JobEnded { result: JobResult::Succeeded });
    };
    run("j0000831");
    host.kill("j0000831");
    host.ending("j0000831");
    run("j0000832");
    assert_eq!(host.ending("j0000832").left_behind, Vec::<String>::new());
    let journal = host.journal("j0000832");
    for line in [
        "port: free",
        "found: 1 images, 0 containers, 0 volumes, 3 networks, 0 files of theirs",
        "said in a container: ",
    ] {
        assert!(journal.lines().any(|found| found.trim_end().ends_with(line.trim_end())), "{line}:\n{journal}");
    }
    // What the second one left fills the store, so the third begins with an empty one.
    run("j0000833");
    host.ending("j0000833");
    let journal = host.journal("j0000833");
    assert!(journal.contains("is made anew: it is nearly full"), "{journal}");
    assert!(journal.contains("found: 0 images, 0 containers, 0 volumes, 3 networks"), "{journal}");
    host.lab.shell("rm -r /var/lib/gha-runner-stores").unwrap();
    assert_nothing_left(&host, &before);
}

/// Binds each place read-only once more, as Docker's own helpers do, without the flags of the mount it lies on.
const BINDS: &str = r#"
say "Listening for Jobs"
for place in /usr/bin /var/lib/docker /var/lib/containerd /srv/gha-cache/mine; do
    sudo unshare --mount sh -c "mkdir -p /tmp/at && mount --bind $place /tmp/at && mount -o remount,bind,ro,dev,suid /tmp/at" \
        && echo "bound $place;"
done
"#;

#[test]
fn what_docker_may_bind_has_no_mount_flag_in_its_way() {
    for class in ["keep = true\nkeep_size = \"64M\"", ""] {
        let docker = format!("{class}\n[class.medium.cache.mine]\nsize = \"64M\"");
        let Some(host) = docker_host(BINDS, &docker) else { return };
        host.hand_over("j0000841", 1);
        host.start("j0000841").unwrap();
        host.ending("j0000841");
        let journal = host.journal("j0000841");
        for place in ["/usr/bin", "/var/lib/docker", "/var/lib/containerd", "/srv/gha-cache/mine"] {
            assert!(journal.contains(&format!("bound {place};")), "{place}:\n{journal}");
        }
    }
}

/// Tries nodes of the host's devices and of one that harms nobody, on the root and in Docker, with no mount flag in the
/// way.
const NODES: &str = r#"
say "Listening for Jobs"
say "Running job: nodes"
for _ in $(seq 100); do [ ! -S /run/dbus/system_bus_socket ] || break; sleep 0.05; done
sudo mount -o remount,bind,dev,suid / && echo "flags taken away;"
try() {
    sudo mknod /node-$1 $2 $3 $4 2> /dev/null && echo "made $1;"
    sudo sh -c ": < /node-$1" 2> /dev/null && echo "opened $1;"
}
image
for device in "mem c 1 1" "kmsg c 1 11" "console c 5 1" "fuse c 10 229" "tun c 10 200" "kvm c 10 232" \
    "loop-control c 10 237" "loop0 b 7 0" "sda b 8 0" "vda b 254 0"; do
    set -- $device
    try $@
    docker run --rm --privileged box sh -c "mknod /n $2 $3 $4 && : < /n" 2> /dev/null && echo "opened $1 in docker;"
done
try null c 1 3
echo "tried all;"
"#;

#[test]
fn no_device_node_of_a_jobs_own_making_opens() {
    for privileged in [false, true] {
        let class = format!("privileged = {privileged}\n[class.medium.docker]\nenable = true\n");
        let job = format!("{IMAGE}{NODES}");
        let Some(host) = Host::boot_with(&HostConfig { job, tree: Recipe::DOCKER, class, ..HostConfig::default() })
        else {
            return;
        };
        host.hand_over("j0000851", 1);
        host.start("j0000851").unwrap();
        host.ending("j0000851");
        let journal = host.journal("j0000851");
        assert!(journal.contains("tried all;"), "{journal}");
        // One that every container has anyway may be made where there is no user namespace.
        let (opened, made) = (journal.matches("opened ").count(), journal.contains("made null;"));
        let harmless = journal.matches("opened null;").count();
        assert_eq!(opened - harmless, 0, "privileged = {privileged}:\n{journal}");
        assert!(privileged || !made, "{journal}");
        if !privileged {
            assert!(journal.contains("flags taken away;") && !journal.contains("made "), "{journal}");
        }
    }
}

/// A registry with one image, `library/hello`, in the internet of the lab. `$1`: a directory, `$2`: a program for it.
const REGISTRY: &str = r#"
set -eu
mkdir -p "$1/image/bin"; cp "$2" "$1/image/bin/busybox"; ln -s busybox "$1/image/bin/echo"
cd "$1"
put() { sum=$(sha256sum new | cut -d' ' -f1); size=$(stat -c %s new); mv new "_v2_library_hello_blobs_sha256:$sum"; }
tar -C image -c . > new; put; layer=$sum layer_size=$size
printf '{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' "$layer" > new
put
type=application/vnd.docker
printf '{"schemaVersion":2,"mediaType":"%s","config":{"mediaType":"%s","size":%s,"digest":"sha256:%s"},"layers":[{"mediaType":"%s","size":%s,"digest":"sha256:%s"}]}' \
    $type.distribution.manifest.v2+json $type.container.image.v1+json "$size" "$sum" \
    $type.image.rootfs.diff.tar.gzip "$layer_size" "$layer" > new
put
# By its tag and by its digest.
mv "_v2_library_hello_blobs_sha256:$sum" "_v2_library_hello_manifests_sha256:$sum"
ln "_v2_library_hello_manifests_sha256:$sum" _v2_library_hello_manifests_latest
: > _v2_
"#;

#[test]
fn images_come_from_the_mirror_that_the_class_names() {
    let Some(host) = docker_host(
        r#"
        say "Listening for Jobs"
        docker run --rm hello /bin/echo 'said by an image of the mirror'
        "#,
        // No resolver: asking one that is not there would take longer than the test.
        &format!("mirror = \"http://{}:5000\"\n[network]\ndns = []", Place::Internet.address()),
    ) else {
        return;
    };
    let _registry = registry(&host);
    host.hand_over("j0000821", 1);
    host.start("j0000821").unwrap_or_else(|error| panic!("{error}"));
    host.ending("j0000821");
    let journal = host.journal("j0000821");
    assert!(journal.contains("said by an image of the mirror"), "{journal}");
}

#[test]
fn images_come_through_the_proxy_and_containers_inside_know_it() {
    if let Some(reason) = ForwardProxy::missing() {
        println!("skipped: {reason}");
        return;
    }
    let (mirror, lan) = (format!("{}:5000", Place::Internet.address()), Place::Lan.address());
    let url = format!("http://{lan}:{}", ForwardProxy::PORT);
    let Some(host) = docker_host(
        r#"
        say "Listening for Jobs"
        docker run --rm hello /bin/busybox env | grep -i proxy | sed 's/^/inside: /'
        "#,
        &format!(
            "mirror = \"http://{mirror}\"\n[network]\ndns = []\n[proxy]\nurl = \"{url}\"\nexcept = [\"corp.example\"]"
        ),
    ) else {
        return;
    };
    let _registry = registry(&host);
    let proxy = ForwardProxy::start(&host.lab, Place::Lan).unwrap();
    host.hand_over("j0000822", 1);
    host.start("j0000822").unwrap_or_else(|error| panic!("{error}"));
    host.ending("j0000822");
    let journal = host.journal("j0000822");
    for line in [format!("inside: https_proxy={url}"), "inside: NO_PROXY=localhost,127.0.0.1,::1,corp.example".into()] {
        assert!(journal.contains(&line), "{line} in {journal}");
    }
    let (requests, pulled) = (proxy.requests().unwrap(), format!("GET http://{mirror}/v2/library/hello/"));
    assert!(requests.iter().any(|request| request.starts_with(&pulled)), "{requests:#?}\n{journal}");
}

/// Starts the registry.
fn registry(host: &Host) -> Served {
    let files = host.lab.shared().join("registry");
    let tree = Tree::ensure(&Cache::open().unwrap(), &Recipe::DOCKER).unwrap();
    let made = Command::new("sh")
        .args(["-c", REGISTRY, "registry"])
        .args([&files, &tree.path().join("bin/busybox")])
        .status()
        .unwrap();
    assert!(made.success());
    Served::start(host, &files)
}

/// Debian's registry on the host's loopback, which keeps what it has fetched.
const PULL_THROUGH: &str = r#"
cp $template/usr/bin/docker-registry /usr/local/bin/
cat > /etc/hub.yml <<END
version: 0.1
storage: { filesystem: { rootdirectory: /var/lib/hub } }
http: { addr: "127.0.0.1:5000" }
proxy: { remoteurl: "http://UPSTREAM" }
END
printf '[Service]\nExecStart=/usr/local/bin/docker-registry serve /etc/hub.yml\n' > /etc/systemd/system/hub.service
"#;

#[test]
fn an_image_is_downloaded_once_for_all_jobs_through_a_registry_of_the_host() {
    let config = HostConfig {
        job: r#"
            say "Listening for Jobs"
            docker run --rm hello /bin/echo 'said by an image of the mirror'
        "#
        .into(),
        tree: Recipe::DOCKER,
        // No resolver, and no way out: what is reached is the registry on the host.
        class: r#"
            services = ["hub"]
            [service.hub]
            address = "127.0.0.1:5000"
            [class.medium.docker]
            enable = true
            mirror = "http://hub.host.internal:5000"
            [class.medium.network]
            internet = false
            dns = []
        "#
        .into(),
        setup: PULL_THROUGH.replace("UPSTREAM", &Served::at()),
        ..HostConfig::default()
    };
    let Some(host) = Host::boot_with(&config) else { return };
    let upstream = registry(&host);
    let listens =
        "for _ in $(seq 100); do curl --silent --fail http://127.0.0.1:5000/v2/ && exit; sleep 0.1; done; exit 1";
    host.lab.shell(&format!("systemctl start hub.service; {listens}")).unwrap();
    let pulls = |name: &str, subnet: u32| {
        host.hand_over(name, subnet);
        host.start(name).unwrap_or_else(|error| panic!("{error}"));
        host.ending(name);
        let journal = host.journal(name);
        assert!(journal.contains("said by an image of the mirror"), "{journal}");
    };
    pulls("j0000823", 1);
    // Its configuration and its one layer; this registry fetches once to answer, and once to keep.
    let fetched = upstream.downloads("/blobs/");
    assert!(fetched >= 2, "{fetched}");
    pulls("j0000824", 2);
    assert_eq!(upstream.downloads("/blobs/"), fetched, "the second job's layers come from the host");
    drop(upstream);
    pulls("j0000825", 3);
}

/// Debian's releases have Docker 20.10 and 26.1, which ask mirrors for Docker Hub alone.
#[test]
fn images_of_another_registry_come_from_the_mirror_that_the_class_names_for_it() {
    let config = HostConfig {
        job: r#"
            say "Listening for Jobs"
            for _ in $(seq 100); do [ ! -S /run/dbus/system_bus_socket ] || break; sleep 0.05; done
            sudo sed -i '1s/{/{"features": {"containerd-snapshotter": true},/' /etc/docker/daemon.json
            docker run --rm registry.example/library/hello /bin/echo 'said by an image of another registry'
        "#
        .into(),
        tree: Recipe::documented("full", Suite::NEWEST).unwrap(),
        class: format!(
            "[class.medium.docker]\nenable = true\nmirrors = {{ \"registry.example\" = \"http://{}\" }}\n[network]\ndns = []",
            Served::at()
        ),
        ..HostConfig::default()
    };
    let Some(host) = Host::boot_with(&config) else { return };
    let mirror = registry(&host);
    host.hand_over("j0000826", 1);
    host.start("j0000826").unwrap_or_else(|error| panic!("{error}"));
    host.ending("j0000826");
    let journal = host.journal("j0000826");
    assert!(journal.contains("said by an image of another registry"), "{journal}");
    assert_eq!(mirror.downloads("/blobs/"), 2);
}
