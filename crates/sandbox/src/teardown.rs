//! Removes everything of one container, knowing nothing but its name.
//!
//! It neither needs the settings nor what *prepare* decided: the class may be gone from the settings, a newer program
//! may clean up after an older one, and *prepare* may never have begun. It carries on after every error and can be
//! run any number of times.

use std::{
    env, fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use contract::{ContainerName, Ending, event::GuestExit};
use kernel::{cgroup, conntrack, mounts, netlink::Netlink, remove};
use settings::pool::container_address;

use super::{
    Paths, devices, discard, ending, firewall, gc_root, last_words, link, lock,
    record::{self, RecordDirectory},
    service_manager,
};

/// Left behind, as long as nobody says otherwise.
const UNFINISHED: &str = "teardown did not come to its end";
/// Directories of systemd-nspawn with one for each machine, which stay when it is killed.
const NSPAWNS: [&str; 2] = ["propagate", "unix-export"];

/// Removes what there is and writes the ending. True if nothing is left.
pub fn teardown(paths: &Paths, class: &str, name: &ContainerName) -> bool {
    let begun = Instant::now();
    let record = RecordDirectory::at(paths.record(name));
    let variable = |key| env::var(key).ok().filter(|value| !value.is_empty());
    let mut ending = Ending {
        name: name.clone(),
        class: class.to_owned(),
        service_result: variable("SERVICE_RESULT").unwrap_or_else(|| "unknown".to_owned()),
        exit_code: variable("EXIT_CODE"),
        exit_status: variable("EXIT_STATUS"),
        error: record.error().or_else(|| interrupted(&record)),
        last_words: None,
        asked_to_stop: false,
        memory_peak: accounted("memory.peak").and_then(|text| text.trim().parse().ok()),
        oom_kills: accounted("memory.events").as_deref().and_then(oom_kills),
        cpu_us: accounted("cpu.stat").as_deref().and_then(cgroup::cpu_us),
        ended_at_ms: 0,
        teardown_us: 0,
        left_behind: vec![UNFINISHED.to_owned()],
    };
    // Should this process be killed half-way, how the container ended is known all the same.
    let write = |ending: &mut Ending, left: Vec<String>| {
        ending.left_behind = left;
        ending.ended_at_ms = now_ms();
        ending.teardown_us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        if let Err(error) = ending::write(&paths.endings, ending) {
            eprintln!("teardown of {name}: {error:#}");
        }
    };
    let unfinished = ending.left_behind.clone();
    write(&mut ending, unfinished);
    if is_unexplained(&ending, record.step().as_deref()) {
        explain(&mut ending, variable("INVOCATION_ID").as_deref());
    }
    // From here on a firewall that is loaded anew leaves the container out.
    match record.exists().then(|| lock::take(&paths.records)).transpose() {
        Ok(_lock) => drop(record.put_step(record::TEARDOWN)),
        Err(error) => eprintln!("teardown of {name}: {error:#}"),
    }
    let netlink = Netlink::open().inspect_err(|error| eprintln!("teardown of {name}: {error}")).ok();
    let mut left = remove(paths, name, netlink.as_ref());
    // Name, subnet and ids are free now; the files may take a while.
    let files = left
        .iter()
        .cloned()
        .chain(discard::waits(&paths.roots, name).then(|| format!("{UNFINISHED}: its files are there")));
    write(&mut ending, files.collect());
    left.extend(remove_discarded(paths, Some(name)));
    for problem in &left {
        eprintln!("teardown of {name}: {problem}");
    }
    let clean = left.is_empty();
    write(&mut ending, left);
    if let Err(error) = ending::prune(&paths.endings) {
        eprintln!("teardown of {name}: cannot prune {}: {error}", paths.endings.display());
    }
    println!("removed {name} in {:.1} ms", begun.elapsed().as_secs_f64() * 1e3);
    clean
}

/// Whether anything of the container is left.
pub fn remains(paths: &Paths, name: &ContainerName, netlink: &Netlink) -> bool {
    let there = |path: PathBuf| path.symlink_metadata().is_ok();
    let linked = |link: String| netlink.link(&link).is_ok_and(|index| index.is_some());
    [paths.record(name), paths.layers(name), paths.disk(name), paths.event(name), paths.gc_roots.join(name.as_str())]
        .into_iter()
        .any(there)
        || [link::host_end(name), link::guest_end(name)].into_iter().any(linked)
}

/// Removes everything of the container but its files, which are set aside for [`remove_discarded`]; what could not be
/// removed, one line each. The record goes last and stays when anything else does, so that the subnet and the user ids
/// stay taken.
pub fn remove(paths: &Paths, name: &ContainerName, netlink: Option<&Netlink>) -> Vec<String> {
    release_lock(paths, name);
    let took = |begun: Instant| format!("{:.1}", begun.elapsed().as_secs_f64() * 1e3);
    // Each waits for a grace period of the kernel's, and they can wait together.
    let (mut left, waits) = std::thread::scope(|scope| {
        let begun = Instant::now();
        let links = scope.spawn(move || (delete_links(name, netlink), took(begun)));
        let events = scope.spawn(move || (mounts::clear(&paths.event(name)), took(begun)));
        let fence = scope.spawn(move || (leave_the_fence(paths, name), took(begun)));
        let mut left = devices::release(&paths.layers(name));
        left.extend(mounts::clear(&paths.layers(name)));
        // A file system of its own for each machine, on newer versions; gone already unless systemd-nspawn was killed.
        left.extend(mounts::clear(&paths.nspawn.join("unix-export").join(name.as_str())));
        let layers = took(begun);
        let panicked = |what: &str| (vec![format!("{what}: a thread panicked")], "?".to_owned());
        let (events_left, events) = events.join().unwrap_or_else(|_| panicked("mounts"));
        let (fence_left, fence) = fence.join().unwrap_or_else(|_| panicked("firewall"));
        let (links_left, links) = links.join().unwrap_or_else(|_| panicked("links"));
        left.extend([events_left, fence_left, links_left].concat());
        (left, format!("layers {layers}, events {events}, fence {fence}, links {links}"))
    });
    let files = Instant::now();
    let mut delete = |parent: &Path| {
        if let Err(error) = remove::tree(parent, name.as_str().as_ref()) {
            left.push(format!("{}: {error}", parent.join(name.as_str()).display()));
        }
    };
    delete(&paths.events);
    for parent in NSPAWNS {
        delete(&paths.nspawn.join(parent));
    }
    delete(&paths.disks);
    if let Err(error) = discard::set_aside(&paths.roots, name) {
        left.push(format!("{}: {error}", paths.layers(name).display()));
    }
    if let Err(error) = gc_root::release(&paths.gc_roots, name) {
        left.push(format!("{}: {error}", paths.gc_roots.join(name.as_str()).display()));
    }
    if left.is_empty() {
        let record = paths.record(name);
        if let Err(error) = remove::tree(&paths.records, name.as_str().as_ref()) {
            left.push(format!("{}: {error}", record.display()));
        }
    } else {
        // Whatever else stays, the secret does not.
        let _ = fs::remove_file(RecordDirectory::at(paths.record(name)).grant_file());
    }
    println!("removal in ms, at once: {waits}; then files {}", took(files));
    left
}

/// Removes the files of this container and of earlier ones; what could not be removed, one line each.
pub fn remove_discarded(paths: &Paths, name: Option<&ContainerName>) -> Vec<String> {
    let (gone, mut left) = discard::remove_all(&paths.roots, name);
    left.extend(
        gone.iter().filter_map(|name| ending::clear(&paths.endings, name).err().map(|error| format!("{error:#}"))),
    );
    left
}

fn leave_the_fence(paths: &Paths, name: &ContainerName) -> Vec<String> {
    let leave = || -> anyhow::Result<()> {
        if let Ok(plan) = RecordDirectory::at(paths.record(name)).plan() {
            conntrack::forget(container_address(plan.subnet))?;
        }
        firewall::expel(name)
    };
    leave().err().map(|error| format!("{error:#}")).into_iter().collect()
}

fn delete_links(name: &ContainerName, netlink: Option<&Netlink>) -> Vec<String> {
    match netlink.map(|netlink| link::delete(netlink, name)) {
        None => vec!["links: no connection to the kernel".to_owned()],
        Some(Err(error)) => vec![error.to_string()],
        Some(Ok(())) => Vec::new(),
    }
}

/// Removes the lock file a killed systemd-nspawn left for the container's root directory, while that still has the
/// number the file is named after. Nobody else ever locks it.
fn release_lock(paths: &Paths, name: &ContainerName) {
    if let Ok(root) = fs::symlink_metadata(paths.root(name)) {
        let lock = format!("inode-{}:{}", root.dev(), root.ino());
        let _ = fs::remove_file(paths.nspawn.join("locks").join(lock));
    }
}

/// A *prepare* that was killed left no error, only the step it was at.
fn interrupted(record: &RecordDirectory) -> Option<String> {
    let step = record.step()?;
    let told = [record::PREPARED, record::RUN, record::TEARDOWN].contains(&&*step);
    (!told).then(|| format!("prepare: interrupted in step {step}"))
}

/// Neither *prepare* nor the guest said how it ended. A container that was never begun has nothing to explain.
fn is_unexplained(ending: &Ending, step: Option<&str>) -> bool {
    let guests_own = ending.exit_status.as_deref().and_then(|status| GuestExit::from_code(status.parse().ok()?));
    match &ending.error {
        Some(_) => step.is_some_and(|step| ![record::PREPARED, record::RUN, record::TEARDOWN].contains(&step)),
        // What ends before READY may have any status.
        // That the container was asked to stop, systemd has to confirm.
        None => {
            let is_explained = guests_own.is_some_and(|exit| exit != GuestExit::Stopped);
            step.is_some() && (!is_explained || ending.service_result == "protocol")
        }
    }
}

/// Asks systemd whether the container ever came up and whether somebody stopped it, and the journal for the last words.
fn explain(ending: &mut Ending, invocation: Option<&str>) {
    let life = service_manager::ask_once(async |manager| manager.life(&ending.class, &ending.name).await)
        .inspect_err(|error| eprintln!("teardown of {}: {error:#}", ending.name))
        .ok();
    ending.asked_to_stop = life.is_some_and(|life| life.asked_to_stop);
    if ending.asked_to_stop {
        ending.error = None;
    } else if ending.error.is_none() {
        ending.last_words = invocation.and_then(last_words::of_invocation);
        if life.is_some_and(|life| !life.was_active) {
            let result = || format!("it ended before it was up ({})", ending.service_result);
            ending.error = Some(ending.last_words.take().unwrap_or_else(result));
        }
    }
}

/// What the kernel has in this file of the unit's control group, where it accounts for memory (cgroups v2).
fn accounted(file: &str) -> Option<String> {
    fs::read_to_string(cgroup::own_unit()?.join(file)).ok()
}

/// How often the kernel killed a process there or below because memory was used up.
fn oom_kills(events: &str) -> Option<u64> {
    events.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::symlink;

    use rustix::{
        fs::{IFlags, Mode, OFlags},
        mount::{MountFlags, MountPropagationFlags},
    };

    use super::*;
    use crate::{record, rootfs};
    use kernel::{
        mounts,
        syscall::{Namespace, unshare},
    };
    use settings::Root;

    /// Runs a test in a mount and a network namespace of its own, or says why not.
    fn alone(test: impl FnOnce(&Paths, &ContainerName, &Netlink) + Send + 'static) {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: only root can mount and make links");
            return;
        }
        let in_thread = move || {
            unshare(Namespace::Mount).unwrap();
            unshare(Namespace::Network).unwrap();
            rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
            let home = tempfile::tempdir().unwrap();
            let base = home.path().canonicalize().unwrap();
            let paths = Paths {
                handover: base.join("handover"),
                records: base.join("records"),
                roots: base.join("roots"),
                disks: base.join("disks"),
                stores: base.join("stores"),
                events: base.join("events"),
                endings: base.join("endings"),
                gc_roots: base.join("gcroots/gha-runner"),
                nspawn: base.join("nspawn"),
                guest: "/nonexistent".into(),
                helper: "/nonexistent".into(),
            };
            crate::private::make_private(&paths.records).unwrap();
            crate::private::make_private(&paths.roots).unwrap();
            test(&paths, &"j1234567".parse().unwrap(), &Netlink::open().unwrap());
        };
        std::thread::spawn(in_thread).join().unwrap();
    }

    #[test]
    fn kills_for_want_of_memory_are_counted() {
        assert_eq!(oom_kills("low 0\nhigh 0\nmax 15\noom 2\noom_kill 3\noom_group_kill 0\n"), Some(3));
        assert_eq!(oom_kills(""), None);
    }

    fn tmpfs(at: &Path) {
        rustix::mount::mount("test", at, "tmpfs", MountFlags::empty(), None).unwrap();
    }

    /// Everything *prepare* makes, without the part that needs its helper.
    fn make(paths: &Paths, name: &ContainerName, netlink: &Netlink) {
        RecordDirectory::at(paths.record(name)).create().unwrap();
        let system = paths.endings.with_file_name("system");
        fs::create_dir_all(system.join("init")).unwrap();
        fs::create_dir_all(paths.gc_roots.parent().unwrap()).unwrap();
        gc_root::hold(&paths.gc_roots, name, &system).unwrap();
        let tree = Root::Tree("/nonexistent".into());
        rootfs::directories(&paths.layers(name), &tree, None, 1000).unwrap();
        tmpfs(&paths.layers(name).join("lower"));
        rootfs::overlays(&paths.layers(name), &tree, None)
            .iter()
            .for_each(|overlay| rootfs::mount_overlay(overlay, rootfs::device_files(false)).unwrap());
        rootfs::mount_events(&paths.event(name), 1000).unwrap();
        link::make(netlink, name, "10.0.0.0/24".parse().unwrap()).unwrap();
        link::address(netlink, name, "10.0.0.0/24".parse().unwrap(), false).unwrap();
    }

    #[test]
    fn everything_goes_and_again_is_nothing() {
        alone(|paths, name, netlink| {
            make(paths, name, netlink);
            assert!(remains(paths, name, netlink));
            assert_eq!(mounts::below(&paths.layers(name)).unwrap(), [paths.root(name)]);
            for _ in 0..3 {
                assert_eq!(remove(paths, name, Some(netlink)), Vec::<String>::new());
                assert!(!remains(paths, name, netlink));
            }
            assert_eq!(record::names(&paths.gc_roots).unwrap(), []);
            make(paths, name, netlink);
            assert_eq!(remove(paths, name, Some(netlink)), Vec::<String>::new());
        });
    }

    #[test]
    fn links_that_go_at_the_same_time_go_and_all_others_stay() {
        alone(|_, _, netlink| {
            let names: Vec<ContainerName> = (0..30).map(|index| format!("j{index:07}").parse().unwrap()).collect();
            for (index, name) in names.iter().enumerate() {
                link::make(netlink, name, format!("10.0.{index}.0/24").parse().unwrap()).unwrap();
            }
            let (leaving, staying) = names.split_at(20);
            std::thread::scope(|scope| {
                for name in leaving {
                    // A thread is where a network namespace is.
                    scope.spawn(|| link::delete(&Netlink::open().unwrap(), name).unwrap());
                }
            });
            let mut expected: Vec<String> =
                staying.iter().flat_map(|name| [link::host_end(name), link::guest_end(name)]).collect();
            let mut found = netlink.links().unwrap();
            found.retain(|link| link::owner(link).is_some());
            expected.sort();
            found.sort();
            assert_eq!(found, expected);
        });
    }

    #[test]
    fn a_mount_in_use_and_mounts_of_another_version_go_as_well() {
        alone(|paths, name, netlink| {
            make(paths, name, netlink);
            let inner = paths.root(name).join("inner");
            fs::create_dir(&inner).unwrap();
            tmpfs(&inner);
            tmpfs(&inner);
            let _busy = fs::File::create(inner.join("busy")).unwrap();
            assert_eq!(remove(paths, name, Some(netlink)), Vec::<String>::new());
            assert!(!remains(paths, name, netlink));
        });
    }

    #[test]
    fn what_lies_outside_stays() {
        alone(|paths, name, netlink| {
            let outside = paths.endings.with_file_name("outside");
            fs::create_dir_all(outside.join("precious")).unwrap();
            make(paths, name, netlink);
            symlink(&outside, paths.root(name).join("link")).unwrap();
            // A bind mount that teardown cannot know of is unmounted, not emptied.
            let bound = paths.root(name).join("bound");
            fs::create_dir(&bound).unwrap();
            rustix::mount::mount_bind(&outside, &bound).unwrap();
            assert_eq!(remove(paths, name, Some(netlink)), Vec::<String>::new());
            assert!(outside.join("precious").exists());
        });
    }

    #[test]
    fn files_that_cannot_go_are_told_and_keep_neither_name_nor_subnet() {
        alone(|paths, name, netlink| {
            make(paths, name, netlink);
            let stuck = paths.layers(name).join("upper/stuck");
            fs::write(&stuck, "").unwrap();
            let file = rustix::fs::open(&stuck, OFlags::RDONLY, Mode::empty()).unwrap();
            if rustix::fs::ioctl_setflags(&file, IFlags::IMMUTABLE).is_err() {
                println!("skipped: this file system has no immutable files");
                return;
            }
            assert!(!teardown(paths, "medium", name));
            let left = || -> Vec<String> {
                let text = fs::read_to_string(paths.endings.join("j1234567.json")).unwrap();
                serde_json::from_str::<Ending>(&text).unwrap().left_behind
            };
            assert!(left().len() == 1 && left()[0].contains("stuck"), "{:?}", left());
            assert!(!remains(paths, name, netlink));
            assert!(mounts::below(&paths.roots).unwrap().is_empty());
            rustix::fs::ioctl_setflags(&file, IFlags::empty()).unwrap();
            // The next teardown, of whichever container, removes them and says so.
            assert!(teardown(paths, "medium", &"j7654321".parse().unwrap()));
            assert_eq!((left(), fs::read_dir(&paths.roots).unwrap().count()), (vec![], 0));
        });
    }

    #[test]
    fn what_is_left_keeps_the_subnet_but_not_the_grant() {
        alone(|paths, name, netlink| {
            make(paths, name, netlink);
            let grant = RecordDirectory::at(paths.record(name)).grant_file();
            fs::write(&grant, "secret").unwrap();
            fs::create_dir_all(&paths.disks).unwrap();
            let stuck = paths.disk(name);
            fs::write(&stuck, "").unwrap();
            let file = rustix::fs::open(&stuck, OFlags::RDONLY, Mode::empty()).unwrap();
            if rustix::fs::ioctl_setflags(&file, IFlags::IMMUTABLE).is_err() {
                println!("skipped: this file system has no immutable files");
                return;
            }
            let left = remove(paths, name, Some(netlink));
            assert!(left.len() == 1 && left[0].contains("disks"), "{left:?}");
            assert_eq!(record::names(&paths.records).unwrap(), std::slice::from_ref(name));
            assert!(!grant.exists());
            assert_eq!(netlink.link(&link::host_end(name)).unwrap(), None);
            rustix::fs::ioctl_setflags(&file, IFlags::empty()).unwrap();
            assert_eq!(remove(paths, name, Some(netlink)), Vec::<String>::new());
            assert!(!remains(paths, name, netlink));
        });
    }

    #[test]
    fn an_ending_is_written_even_of_a_container_that_never_was() {
        alone(|paths, name, _| {
            for _ in 0..2 {
                assert!(teardown(paths, "medium", name));
                let text = fs::read_to_string(paths.endings.join("j1234567.json")).unwrap();
                let ending: Ending = serde_json::from_str(&text).unwrap();
                assert_eq!((ending.service_result.as_str(), ending.left_behind.len()), ("unknown", 0));
                assert_eq!((ending.error, &ending.name), (None, name));
            }
            let record = RecordDirectory::at(paths.record(name));
            record.create().unwrap();
            record.put_step("overlay").unwrap();
            assert!(teardown(paths, "medium", name));
            let text = fs::read_to_string(paths.endings.join("j1234567.json")).unwrap();
            assert!(text.contains("prepare: interrupted in step overlay"), "{text}");
        });
    }
}
