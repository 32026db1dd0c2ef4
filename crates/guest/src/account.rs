//! The job user, as the container's own `/etc/passwd` and `/etc/group` define it (passwd(5), group(5)).

use std::path::PathBuf;

/// What a process of the user needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Log-in name.
    pub name: String,
    /// User id; never 0.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Primary and supplementary groups.
    pub groups: Vec<u32>,
    /// Home directory.
    pub home: PathBuf,
    /// Log-in shell.
    pub shell: PathBuf,
}

/// Why there is no such account.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// No line for the user.
    #[error("the container has no user {0:?}")]
    Missing(String),
    /// Jobs do not run as root.
    #[error("user {0:?} of the container is root")]
    Root(String),
}

/// Finds `name` in the text of the two files.
pub fn find(name: &str, passwd: &str, group: &str) -> Result<Account, Unusable> {
    let account =
        passwd.lines().find_map(|line| entry(line, name)).ok_or_else(|| Unusable::Missing(name.to_owned()))?;
    if account.uid == 0 {
        return Err(Unusable::Root(name.to_owned()));
    }
    let supplementary = group.lines().filter_map(|line| member_of(line, name)).filter(|gid| *gid != account.gid);
    let groups = std::iter::once(account.gid).chain(supplementary).collect();
    Ok(Account { groups, ..account })
}

fn entry(line: &str, name: &str) -> Option<Account> {
    let mut fields = line.split(':');
    if fields.next()? != name {
        return None;
    }
    let uid = fields.nth(1)?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    let home = PathBuf::from(fields.nth(1)?);
    let shell = fields.next().filter(|shell| !shell.is_empty()).unwrap_or("/bin/sh").into();
    Some(Account { name: name.to_owned(), uid, gid, groups: Vec::new(), home, shell })
}

fn member_of(line: &str, name: &str) -> Option<u32> {
    let mut fields = line.split(':');
    let gid = fields.nth(2)?.parse().ok()?;
    fields.next()?.split(',').any(|member| member == name).then_some(gid)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nrunner2:x:7:7::/:\nrunner:x:1001:1002:R,,:/home/runner:\n\
                          toor:x:0:0::/root:/bin/sh\nbroken:x:one:2::/:\n";
    const GROUP: &str = "root:x:0:\ndocker:x:998:alice,runner\nrunner:x:1002:runner\nkvm:x:104:runner2\n";

    #[test]
    fn a_user_has_its_ids_groups_home_and_a_shell() {
        let account = find("runner", PASSWD, GROUP).unwrap();
        assert_eq!((account.uid, account.gid, account.groups), (1001, 1002, vec![1002, 998]));
        assert_eq!((account.home, account.shell), ("/home/runner".into(), "/bin/sh".into()));
    }

    #[test]
    fn root_by_any_name_and_nobody_are_refused() {
        assert_eq!(find("toor", PASSWD, GROUP), Err(Unusable::Root("toor".into())));
        for name in ["nobody", "broken", ""] {
            assert_eq!(find(name, PASSWD, GROUP), Err(Unusable::Missing(name.into())));
        }
    }
}
