//! The one nftables table that keeps containers away from everything but what their class may reach.
//!
//! Rules match links by the beginning of their name and are loaded once. What is per container is an element of a set:
//! *prepare* adds them, *teardown* removes them, and a link without them can send nothing at all.
//!
//! ```text
//! prerouting   IPv6, a source address that is not the container's own, or the loopback as destination: dropped
//! services     what is on the host's loopback and has a name in the settings: found at one address
//! input        to the host itself: dropped, replies and what the class allows aside
//! forward      connections begin with segments no larger than their way takes
//!              to another container: dropped; to a container from anywhere, if new: dropped
//!              the class's chain: its resolvers and what it allows accepted, by the address that the container
//!              asked for; other resolvers dropped
//!              to private, shared, link-local, loopback and multicast addresses: dropped
//!              to the internet: left to the other tables, or dropped if the class has none
//! postrouting  too many connections of one container: dropped; the rest leaves with the host's address
//! ```

mod table;
mod verify;

use std::{collections::BTreeSet, fs, net::Ipv4Addr, path::Path};

use anyhow::{Context, bail};
use contract::ContainerName;
use kernel::netlink::{Netlink, Taken};
use nftables::helper::{self, DEFAULT_ARGS, DEFAULT_NFT, NftablesError};
use serde_json::{Value, json};
use settings::{Class, Settings, pool::container_address};

use super::{
    link, lock,
    record::{self, RecordDirectory},
};

pub use self::table::denies;

/// The table's name; its family is `inet`.
pub const TABLE: &str = "gha_runner";
/// Set of links with the address that may come from each.
const SOURCES: &str = "sources";
/// Map from links to the chain of their class.
const CLASSES: &str = "classes";
/// Set of links in which the kernel counts connections.
const FLOWS: &str = "flows";

/// How often a removal is tried.
const TRIES: u32 = 5;
const REMEDY: &str = "systemctl restart gha-runner-firewall.service";

/// Loads the table in place of an earlier one, with the elements of the containers there are, in one transaction; then
/// reads it back. Refuses a pool that collides with what the host has.
pub fn load(settings: &Settings, records: &Path) -> anyhow::Result<()> {
    refuse_collisions(settings, &Netlink::open()?.taken()?)?;
    // A container that is being prepared is in the records or adds itself to the new table.
    let there = records.is_dir();
    let _lock = there.then(|| lock::take(records)).transpose()?;
    let objects = table::objects(settings);
    // Adding what may be there makes deleting it safe; all of it is one transaction, so there is no moment without a
    // table.
    let mut commands = vec![add(table::table()), json!({"delete": table::table()})];
    commands.extend(objects.iter().cloned().map(add));
    let live = if there { record::plans(records).context("cannot list the containers there are")? } else { vec![] };
    let mut known: BTreeSet<String> = settings.classes.keys().cloned().collect();
    for plan in live {
        // One that is being removed removes its elements itself.
        if RecordDirectory::at(records.join(plan.name.as_str())).step().as_deref() == Some(record::TEARDOWN) {
            continue;
        }
        // A class that is gone from the settings has the chain it had when the container was prepared.
        if known.insert(plan.class.clone()) {
            commands.extend(plan.fence.iter().cloned().map(add));
        }
        // Without one its containers are cut off rather than let loose.
        if settings.classes.contains_key(&plan.class) || !plan.fence.is_empty() {
            commands.extend(elements(&plan.name, &plan.class, container_address(plan.subnet)).map(add));
        }
    }
    apply(commands).context("cannot load the firewall's table")?;
    verify::same(&objects, &list()?.context("the firewall's table is gone again")?)
        .context("the firewall's table is not what was loaded")?;
    for (table, chain) in refusing(&objects_of(&["list", "chains"])?.unwrap_or_default()) {
        let user = if chain == "FORWARD" { "DOCKER-USER, where there is one, or of FORWARD" } else { &chain };
        println!(
            "chain {chain} of table {table} drops what it does not accept, also what containers send; if it has no such \
             rules yet, add to the front of {user}: iifname \"gj-*\" accept; oifname \"gj-*\" ct state \
             established,related accept"
        );
    }
    forward_packets(Path::new("/proc/sys/net/ipv4/ip_forward"))
}

/// The chain of a class, as a container of it keeps it.
pub fn chain_of(class: &Class, settings: &Settings) -> Vec<Value> {
    table::class_objects(class, settings)
}

/// Removes the table, if there is one.
pub fn remove() -> anyhow::Result<()> {
    let commands = vec![add(table::table()), json!({"delete": table::table()})];
    apply(commands).context("cannot remove the firewall's table")
}

/// Lets the container send by its link, and sees that the table is whole: another program may flush the rule set at
/// any time (`nft flush ruleset` is what many distributions' firewall services begin with), and systemd would still
/// call our unit active.
pub fn admit(settings: &Settings, name: &ContainerName, class: &str, address: Ipv4Addr) -> anyhow::Result<()> {
    let before = list()?.with_context(|| format!("the firewall's table `inet {TABLE}` is not loaded; {REMEDY}"))?;
    verify::same(&table::objects(settings), &before)
        .with_context(|| format!("the firewall's table `inet {TABLE}` is not what the settings say; {REMEDY}"))?;
    apply(elements(name, class, address).map(add).into()).context("cannot add the container to the firewall's table")
}

/// Takes from the table whatever names the container's link. The kernel removes a count of connections by itself, maybe
/// just between the look and the removal, which then fails as a whole: the next try sees what is left.
pub fn expel(name: &ContainerName) -> anyhow::Result<()> {
    let link = link::host_end(name);
    let mut last = None;
    for _ in 0..TRIES {
        let Some(objects) = list()? else { return Ok(()) };
        let commands: Vec<Value> = keys(&objects)
            .filter(|(_, key)| link_of(key) == Some(&link))
            .map(|(set, key)| json!({"delete": element(set, key)}))
            .collect();
        if commands.is_empty() {
            return Ok(());
        }
        match apply(commands) {
            Ok(()) => return Ok(()),
            Err(error) => last = Some(error),
        }
    }
    let error = last.unwrap_or_else(|| anyhow::anyhow!("no try was made"));
    Err(error).with_context(|| format!("cannot remove {link} from the firewall's table"))
}

/// The containers that are named in the table.
pub fn admitted() -> anyhow::Result<Vec<ContainerName>> {
    let objects = list()?.unwrap_or_default();
    Ok(keys(&objects).filter_map(|(_, key)| link::owner(link_of(&key)?)).collect())
}

/// Chains of others, by table and name, that refuse forwarded packets unless told otherwise: a verdict of ours cannot
/// overrule them, and theirs cannot overrule our refusals.
fn refusing(chains: &[Value]) -> Vec<(String, String)> {
    chains
        .iter()
        .filter_map(|object| object.get("chain"))
        .filter(|chain| chain["hook"] == "forward" && chain["policy"] == "drop" && chain["table"] != TABLE)
        .map(|chain| {
            let text = |key: &str| chain[key].as_str().unwrap_or("?").to_owned();
            (format!("{} {}", text("family"), text("table")), text("name"))
        })
        .collect()
}

/// A pool that overlaps what the host has would cut the one or the other off.
fn refuse_collisions(settings: &Settings, taken: &[Taken]) -> anyhow::Result<()> {
    let pool = settings.network.pool;
    let foreign = |taken: &&Taken| !taken.link.starts_with(link::HOST_PREFIX) && taken.network.prefix() > 0;
    match taken.iter().filter(foreign).find(|taken| pool.touches(taken.network)) {
        None => Ok(()),
        Some(Taken { network, link, .. }) => bail!(
            "network.pool {pool} collides with {network}, which this host reaches by {link}; choose a private network \
             that is not in use, e.g. network.pool = \"10.213.0.0/16\""
        ),
    }
}

fn elements(name: &ContainerName, class: &str, address: Ipv4Addr) -> [Value; 2] {
    let link = link::host_end(name);
    let verdict = json!({"jump": {"target": table::class_chain(class)}});
    [element(SOURCES, json!({"concat": [link, address.to_string()]})), element(CLASSES, json!([link, verdict]))]
}

fn element(set: &str, element: Value) -> Value {
    json!({"element": {"family": "inet", "table": TABLE, "name": set, "elem": [element]}})
}

fn add(object: Value) -> Value {
    json!({"add": object})
}

/// The keys of all elements of containers, with the set each is in.
fn keys(objects: &[Value]) -> impl Iterator<Item = (&'static str, Value)> {
    objects.iter().flat_map(|object| {
        let body = object.get("set").or_else(|| object.get("map")).unwrap_or(&Value::Null);
        let set = [SOURCES, CLASSES, FLOWS].into_iter().find(|set| body["name"] == **set);
        let elements = body["elem"].as_array().cloned().unwrap_or_default();
        set.into_iter().flat_map(move |set| {
            let key = |element: &Value| match element {
                Value::Array(mapping) => mapping.first().cloned().unwrap_or_default(),
                other => other.pointer("/elem/val").unwrap_or(other).clone(),
            };
            elements.iter().map(|element| (set, key(element))).collect::<Vec<_>>()
        })
    })
}

fn link_of(key: &Value) -> Option<&str> {
    key.as_str().or_else(|| key.pointer("/concat/0")?.as_str())
}

fn apply(commands: Vec<Value>) -> anyhow::Result<()> {
    let document = json!({"nftables": commands}).to_string();
    helper::apply_ruleset_raw(&document, DEFAULT_NFT, DEFAULT_ARGS).map(drop).map_err(explain)
}

/// Everything in the table; `None` if there is none.
fn list() -> anyhow::Result<Option<Vec<Value>>> {
    objects_of(&["list", "table", "inet", TABLE])
}

fn objects_of(command: &[&str]) -> anyhow::Result<Option<Vec<Value>>> {
    let text = match helper::get_current_ruleset_raw(DEFAULT_NFT, command.iter().copied()) {
        Err(NftablesError::NftFailed { stderr, .. }) if stderr.contains("No such file or directory") => {
            return Ok(None);
        }
        result => result.map_err(explain).with_context(|| format!("nft {}", command.join(" ")))?,
    };
    let mut document: Value = serde_json::from_str(&text).context("nft lists no JSON")?;
    match document["nftables"].take() {
        Value::Array(objects) => Ok(Some(objects)),
        _ => bail!("nft lists no objects"),
    }
}

/// The library's error leaves out what nft said.
fn explain(error: NftablesError) -> anyhow::Error {
    match &error {
        NftablesError::NftFailed { stderr, .. } => {
            let said = stderr.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ");
            anyhow::Error::new(error).context(said)
        }
        _ => error.into(),
    }
}

/// Routing between links is off by default, and containers are reached by it.
fn forward_packets(switch: &Path) -> anyhow::Result<()> {
    let shown = switch.display();
    if fs::read_to_string(switch).with_context(|| format!("cannot read {shown}"))?.trim() != "1" {
        fs::write(switch, "1").with_context(|| format!("cannot write {shown}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
