//! Reads what the controller handed over, as if the controller had been taken over.
//!
//! Its directory belongs to an unprivileged user, so at any moment anything in it may be a link to a file of root's, a
//! FIFO that never answers, a device, or grow while it is read. Each file is therefore opened once, without following
//! links and without waiting, judged by its descriptor and read to a limit; everything that is later believed comes
//! from the copy in memory.

use std::{
    fmt,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use contract::{ContainerName, ContainerRecord, GRANT_FILE, GRANT_LIMIT, Grant, RECORD_FILE, RECORD_LIMIT, VERSION};
use rustix::{
    fs::{FileType, Mode, OFlags, ResolveFlags, Stat},
    io::Errno,
};
use serde::de::DeserializeOwned;
use settings::Settings;

/// A record and a grant that were found to be in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// What to boot.
    pub record: ContainerRecord,
    /// Index of its subnet in the pool.
    pub subnet_index: u32,
    /// What the guest gets.
    pub grant: Grant,
}

/// Why a file was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {problem}", file.display())]
pub struct Refused {
    /// The file.
    pub file: PathBuf,
    /// What is wrong with it.
    pub problem: HandoverFault,
}

/// What may be wrong with a file that was handed over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum HandoverFault {
    #[error("does not exist")]
    Missing,
    #[error("is a symbolic link, or one is on the way to it")]
    Link,
    #[error("cannot be opened: {0}")]
    Unopenable(Errno),
    #[error("is not a regular file")]
    NotAFile,
    #[error("has {0} hard links, not one")]
    HardLinks(u64),
    #[error("belongs to user {owner}, not to the controller's user {expected}")]
    Owner { owner: u32, expected: u32 },
    #[error("is open to others (mode {0:04o})")]
    Open(u32),
    #[error("is larger than {0} bytes")]
    TooLarge(u64),
    #[error("cannot be read: {0}")]
    Unreadable(String),
    #[error("is not valid: {0}")]
    Invalid(String),
    #[error("has version {0}; this program knows version {VERSION}")]
    Version(u32),
    #[error("is for container {0}")]
    OtherName(ContainerName),
    #[error("is for class {0:?}")]
    OtherClass(String),
    #[error("is for {0:?}, which no target of the settings serves")]
    ForeignTarget(String),
    #[error("is for {target:?}, which class {class:?} does not serve")]
    UnservedTarget { target: String, class: String },
    #[error("names subnet {0}, which is none of the pool's")]
    ForeignSubnet(ipnetwork::Ipv4Network),
}

/// Reads and checks both files of container `name` under `handover`.
pub fn read(handover: &Path, name: &ContainerName, class: &str, settings: &Settings) -> Result<Accepted, Refused> {
    let directory = handover.join(name.as_str());
    let record_file = directory.join(RECORD_FILE);
    let refuse = |file: &Path| {
        let file = file.to_owned();
        move |problem| Refused { file, problem }
    };
    // Made by systemd (RuntimeDirectory=) in a directory of root's, so its owner is the controller's user for certain.
    let home = handover.parent().unwrap_or(handover);
    let controller = open(home, OFlags::DIRECTORY | OFlags::PATH)
        .and_then(|home| rustix::fs::fstat(&home).map_err(HandoverFault::Unopenable))
        .map_err(refuse(home))?
        .st_uid;
    let record: ContainerRecord = parse(&record_file, controller, RECORD_LIMIT, false).map_err(refuse(&record_file))?;
    let subnet_index = check(&record, name, class, settings).map_err(refuse(&record_file))?;
    let grant_file = directory.join(GRANT_FILE);
    let grant = parse(&grant_file, controller, GRANT_LIMIT, true).map_err(refuse(&grant_file))?;
    Ok(Accepted { record, subnet_index, grant })
}

/// What the record says, against what the unit and root's own settings say; the index of its subnet.
fn check(
    record: &ContainerRecord,
    name: &ContainerName,
    class: &str,
    settings: &Settings,
) -> Result<u32, HandoverFault> {
    let short = |text: &str| text.chars().take(64).collect::<String>();
    if record.version != VERSION {
        return Err(HandoverFault::Version(record.version));
    }
    if record.name != *name {
        return Err(HandoverFault::OtherName(record.name.clone()));
    }
    if record.class != class {
        return Err(HandoverFault::OtherClass(short(&record.class)));
    }
    let target = settings.target_of(&record.scope).ok_or_else(|| HandoverFault::ForeignTarget(short(&record.scope)))?;
    if !target.has_class(class) {
        return Err(HandoverFault::UnservedTarget { target: short(&record.scope), class: short(class) });
    }
    settings.network.pool.index_of(record.subnet).ok_or(HandoverFault::ForeignSubnet(record.subnet))
}

/// Opens an absolute path without following any link on the way.
fn open(path: &Path, flags: OFlags) -> Result<std::os::fd::OwnedFd, HandoverFault> {
    let opened =
        rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).and_then(|root| {
            rustix::fs::openat2(
                root,
                path.strip_prefix("/").unwrap_or(path),
                flags | OFlags::CLOEXEC | OFlags::NOFOLLOW,
                Mode::empty(),
                ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
            )
        });
    opened.map_err(|error| match error {
        Errno::NOENT => HandoverFault::Missing,
        Errno::LOOP => HandoverFault::Link,
        error => HandoverFault::Unopenable(error),
    })
}

fn parse<T: DeserializeOwned>(path: &Path, controller: u32, limit: u64, secret: bool) -> Result<T, HandoverFault> {
    // NONBLOCK: a FIFO without a writer must not hold us up; on a regular file it means nothing.
    let file = File::from(open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?);
    let stat = rustix::fs::fstat(&file).map_err(HandoverFault::Unopenable)?;
    judge(&stat, controller, limit, secret)?;
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(|error| HandoverFault::Unreadable(error.to_string()))?;
    if bytes.len() as u64 > limit {
        return Err(HandoverFault::TooLarge(limit));
    }
    serde_json::from_slice(&bytes).map_err(|error| HandoverFault::Invalid(explain(&error, secret)))
}

fn judge(stat: &Stat, controller: u32, limit: u64, secret: bool) -> Result<(), HandoverFault> {
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(HandoverFault::NotAFile);
    }
    if stat.st_nlink != 1 {
        return Err(HandoverFault::HardLinks(stat.st_nlink));
    }
    if stat.st_uid != controller && stat.st_uid != 0 {
        return Err(HandoverFault::Owner { owner: stat.st_uid, expected: controller });
    }
    let mode = stat.st_mode & 0o7777;
    let forbidden = if secret { 0o077 } else { 0o022 };
    if mode & forbidden != 0 {
        return Err(HandoverFault::Open(mode));
    }
    if u64::try_from(stat.st_size).is_ok_and(|size| size > limit) {
        return Err(HandoverFault::TooLarge(limit));
    }
    Ok(())
}

/// serde's messages quote what they found; of a secret only the place is told, of the rest no control characters.
fn explain(error: &serde_json::Error, secret: bool) -> String {
    if secret {
        return format!("line {}, column {}", error.line(), error.column());
    }
    struct Plain<'a>(&'a str);
    impl fmt::Display for Plain<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0.chars().take(200).try_for_each(|c| if c.is_control() { f.write_str("?") } else { write!(f, "{c}") })
        }
    }
    Plain(&error.to_string()).to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{
        fs,
        os::unix::fs::{PermissionsExt, symlink},
    };

    use tempfile::TempDir;

    use super::*;
    use settings::check::check as check_settings;

    const NAME: &str = "j1234567";
    const RECORD: &str = r#"{"version":1,"name":"j1234567","class":"medium","subnet":"192.168.100.0/24",
        "scope":"octo-org/hello","job_id":1234567,"runner_name":"host-j1234567"}"#;
    const GRANT: &str = r#"{"kind":"github-jit","encoded_jit_config":"c2VjcmV0"}"#;

    /// A hand-over as the controller makes it, and what an attacker may do to it.
    struct Desk(TempDir);

    impl Desk {
        fn new() -> Self {
            let desk = Self(tempfile::tempdir().unwrap());
            fs::create_dir_all(desk.directory()).unwrap();
            desk.write(RECORD_FILE, RECORD);
            desk.write(GRANT_FILE, GRANT);
            desk
        }

        fn handover(&self) -> PathBuf {
            self.0.path().canonicalize().unwrap().join("controller/containers")
        }

        fn directory(&self) -> PathBuf {
            self.handover().join(NAME)
        }

        fn file(&self, file: &str) -> PathBuf {
            self.directory().join(file)
        }

        fn write(&self, file: &str, text: &str) {
            let _ = fs::remove_file(self.file(file));
            fs::write(self.file(file), text).unwrap();
            self.mode(file, 0o600);
        }

        fn mode(&self, file: &str, mode: u32) {
            fs::set_permissions(self.file(file), fs::Permissions::from_mode(mode)).unwrap();
        }

        fn settings(&self) -> Settings {
            let written = toml::from_str(
                r#"token_file = "/t"
                [[target]]
                repo = "octo-org/hello"
                classes = ["medium"]
                [[target]]
                repo = "octo-org/large"
                classes = ["large"]
                [[target]]
                repo = "octo-org/open"
                forks = "allow"
                [[target]]
                user = "somebody"
                include = ["web-*"]
                [class.medium]
                [class.large]"#,
            )
            .unwrap();
            check_settings(written).unwrap()
        }

        fn read(&self) -> Result<Accepted, HandoverFault> {
            let settings = self.settings();
            read(&self.handover(), &NAME.parse().unwrap(), "medium", &settings).map_err(|refused| refused.problem)
        }
    }

    #[test]
    fn a_hand_over_in_order_is_accepted() {
        let accepted = Desk::new().read().unwrap();
        assert_eq!(accepted.record.subnet.to_string(), "192.168.100.0/24");
        assert_eq!(accepted.subnet_index, 0);
        assert_eq!(accepted.grant, Grant::GithubJit { encoded_jit_config: "c2VjcmV0".into() });
    }

    #[test]
    fn forks_are_refused_by_the_guest_unless_the_record_allows_them() {
        let desk = Desk::new();
        let settings = desk.settings();
        let plan = |desk: &Desk| crate::ContainerPlan::new(&desk.read().unwrap(), &settings).unwrap();
        assert!(!plan(&desk).guest().allow_forks, "a record that does not say");
        for said in [false, true] {
            desk.write(RECORD_FILE, &RECORD.replace("\"job_id\"", &format!("\"allow_forks\":{said},\"job_id\"")));
            assert_eq!(plan(&desk).guest().allow_forks, said);
        }
    }

    #[test]
    fn jobs_of_forks_are_reckoned_with_where_the_settings_allow_them_whatever_the_record_says() {
        let desk = Desk::new();
        desk.write(RECORD_FILE, &RECORD.replace("octo-org/hello", "octo-org/open"));
        let plan = crate::ContainerPlan::new(&desk.read().unwrap(), &desk.settings()).unwrap();
        assert!(plan.allow_forks, "what is kept must not be writable for them");
    }

    #[test]
    fn a_repository_that_the_patterns_select_is_accepted_in_upper_and_lower_case() {
        let desk = Desk::new();
        desk.write(RECORD_FILE, &RECORD.replace("octo-org/hello", "Somebody/Web-Shop"));
        assert_eq!(desk.read().unwrap().record.scope, "Somebody/Web-Shop");
    }

    /// Every way to say something wrong in the record, and the word the refusal must contain.
    #[test]
    fn a_record_that_says_something_wrong_is_refused() {
        for (from, to, word) in [
            ("\"version\":1", "\"version\":2", "version 2"),
            ("j1234567\",\"class", "j7654321\",\"class", "container j7654321"),
            ("\"name\":\"j1234567\"", "\"name\":\"../../etc\"", "not a container name"),
            ("\"medium\"", "\"large\"", "class \"large\""),
            ("octo-org/hello", "octo-org/other", "no target of the settings"),
            ("octo-org/hello", "octo-org", "no target of the settings"),
            ("octo-org/hello", "somebody", "no target of the settings"),
            ("octo-org/hello", "somebody/docs", "no target of the settings"),
            ("octo-org/hello", "somebody/web-x/../docs", "no target of the settings"),
            ("octo-org/hello", "octo-org/large", "class \"medium\" does not serve"),
            ("192.168.100.0/24", "192.168.100.0/25", "none of the pool's"),
            ("192.168.100.0/24", "192.168.99.0/24", "none of the pool's"),
            ("192.168.100.0/24", "192.168.100.1/24", "none of the pool's"),
            ("192.168.100.0/24", "0.0.0.0/0", "none of the pool's"),
            ("\"version\":1", "\"version\":1,\"template\":\"/\"", "unknown field `template`"),
            ("\"version\":1,", "", "missing field `version`"),
            (RECORD, "", "EOF"),
            (RECORD, "[]", "invalid"),
        ] {
            let desk = Desk::new();
            desk.write(RECORD_FILE, &RECORD.replace(from, to));
            let problem = desk.read().unwrap_err().to_string();
            assert!(problem.contains(word) && !problem.contains('\n'), "{from} -> {to}: {problem}");
        }
    }

    #[test]
    fn a_grant_that_is_no_grant_is_refused_without_being_quoted() {
        for grant in [
            r#"{"kind":"swordfish","encoded_jit_config":"x"}"#,
            r#"{"kind":"github-jit","encoded_jit_config":"x","swordfish":1}"#,
            r#"{"kind":"github-jit","encoded_jit_config":["swordfish"]}"#,
            "swordfish",
        ] {
            let desk = Desk::new();
            desk.write(GRANT_FILE, grant);
            let problem = desk.read().unwrap_err();
            assert!(matches!(problem, HandoverFault::Invalid(_)), "{problem:?}");
            assert!(!problem.to_string().contains("swordfish"), "{problem}");
        }
    }

    /// Does something to a file that was handed over.
    type Trick = fn(&Desk, &str);
    /// Recognises what must be said of it.
    type Verdict = fn(&HandoverFault) -> bool;

    /// Every way to hand over something that is not a plain file of the controller's own.
    #[test]
    fn a_file_that_is_not_a_plain_file_of_the_controllers_is_refused() {
        let tricks: [(&str, Trick, Verdict); 10] = [
            ("missing", |desk, file| fs::remove_file(desk.file(file)).unwrap(), |p| *p == HandoverFault::Missing),
            (
                "a symbolic link",
                |desk, file| {
                    let outside = desk.0.path().join("outside");
                    fs::rename(desk.file(file), &outside).unwrap();
                    symlink(outside, desk.file(file)).unwrap();
                },
                |p| *p == HandoverFault::Link,
            ),
            (
                "in a linked directory",
                |desk, _| {
                    let elsewhere = desk.0.path().join("elsewhere");
                    fs::rename(desk.directory(), &elsewhere).unwrap();
                    symlink(elsewhere, desk.directory()).unwrap();
                },
                |p| *p == HandoverFault::Link,
            ),
            (
                "a link through /proc",
                |desk, file| {
                    fs::remove_file(desk.file(file)).unwrap();
                    symlink("/proc/self/fd/0", desk.file(file)).unwrap();
                },
                |p| *p == HandoverFault::Link,
            ),
            (
                "a FIFO",
                |desk, file| {
                    fs::remove_file(desk.file(file)).unwrap();
                    let mode = Mode::from_raw_mode(0o600);
                    rustix::fs::mknodat(rustix::fs::CWD, desk.file(file), FileType::Fifo, mode, 0).unwrap();
                },
                |p| *p == HandoverFault::NotAFile,
            ),
            (
                "a directory",
                |desk, file| {
                    fs::remove_file(desk.file(file)).unwrap();
                    fs::create_dir(desk.file(file)).unwrap();
                },
                |p| *p == HandoverFault::NotAFile,
            ),
            (
                "a socket",
                |desk, file| {
                    fs::remove_file(desk.file(file)).unwrap();
                    // Bound by a short relative name, because a socket's path is limited.
                    let socket = desk.0.path().join("s");
                    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
                    fs::rename(socket, desk.file(file)).unwrap();
                },
                |p| matches!(p, HandoverFault::Unopenable(Errno::NXIO)),
            ),
            (
                "a hard link",
                |desk, file| fs::hard_link(desk.file(file), desk.0.path().join("twin")).unwrap(),
                |p| *p == HandoverFault::HardLinks(2),
            ),
            (
                "too large",
                |desk, file| {
                    let text = format!("{RECORD}{}", " ".repeat(usize::try_from(GRANT_LIMIT).unwrap()));
                    desk.write(file, &text);
                },
                |p| matches!(p, HandoverFault::TooLarge(_)),
            ),
            ("writable by all", |desk, file| desk.mode(file, 0o622), |p| *p == HandoverFault::Open(0o622)),
        ];
        for (what, trick, expected) in tricks {
            for file in [RECORD_FILE, GRANT_FILE] {
                let desk = Desk::new();
                trick(&desk, file);
                let problem = desk.read().unwrap_err();
                assert!(expected(&problem), "{file} {what}: {problem:?}");
            }
        }
    }

    #[test]
    fn a_grant_that_others_can_read_is_refused() {
        for mode in [0o640, 0o604, 0o660] {
            let desk = Desk::new();
            desk.mode(GRANT_FILE, mode);
            assert_eq!(desk.read(), Err(HandoverFault::Open(mode)));
        }
        let desk = Desk::new();
        desk.mode(RECORD_FILE, 0o644);
        assert!(desk.read().is_ok(), "a record may be read by others");
    }

    #[test]
    fn a_file_of_somebody_else_is_refused() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: only root can give files away");
            return;
        }
        let desk = Desk::new();
        let give = |path: &Path, uid| std::os::unix::fs::chown(path, Some(uid), None).unwrap();
        give(desk.handover().parent().unwrap(), 4242);
        assert!(desk.read().is_ok(), "root's own files are accepted");
        give(&desk.file(RECORD_FILE), 4242);
        give(&desk.file(GRANT_FILE), 4242);
        assert!(desk.read().is_ok(), "the controller's files are accepted");
        give(&desk.file(GRANT_FILE), 4243);
        assert_eq!(desk.read(), Err(HandoverFault::Owner { owner: 4243, expected: 4242 }));
    }
}
