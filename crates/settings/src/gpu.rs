//! Which graphics processors of the host containers of a class get.

use std::{fmt, path::PathBuf, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::checker::Checker;

/// What a class writes: `true`, or one or several names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "true, false, a name or a list of names")]
#[allow(missing_docs)]
pub enum GpuWritten {
    All(bool),
    One(String),
    Several(Vec<String>),
}

impl Default for GpuWritten {
    fn default() -> Self {
        Self::All(false)
    }
}

/// Processors of the host, by vendor or each by a name of its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Gpu {
    /// Whatever the host has.
    All,
    /// Every one of NVIDIA's.
    Nvidia,
    /// Every one of AMD's.
    Amd,
    /// Every one of Intel's.
    Intel,
    /// A device of a CDI specification.
    Cdi {
        /// `nvidia.com/gpu`
        kind: String,
        /// `0`, `all`, a UUID.
        name: String,
    },
    /// One by its render node, `/dev/dri/renderD128`, or by a link to it that stays the same when others come and go,
    /// `/dev/dri/by-path/pci-0000:03:00.0-render`.
    RenderNode(PathBuf),
}

impl Gpu {
    /// Whether it leaves some of the host's out.
    pub fn chooses(&self) -> bool {
        *self != Self::All
    }
}

impl fmt::Display for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Nvidia => f.write_str("nvidia"),
            Self::Amd => f.write_str("amd"),
            Self::Intel => f.write_str("intel"),
            Self::Cdi { kind, name } => write!(f, "{kind}={name}"),
            Self::RenderNode(path) => path.display().fmt(f),
        }
    }
}

impl From<Gpu> for String {
    fn from(gpu: Gpu) -> Self {
        gpu.to_string()
    }
}

impl TryFrom<String> for Gpu {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for Gpu {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unknown = || format!("{text:?} names no graphics processor");
        Ok(match text {
            "all" => Self::All,
            "nvidia" => Self::Nvidia,
            "amd" => Self::Amd,
            "intel" => Self::Intel,
            _ if is_render_node(text) => Self::RenderNode(text.into()),
            _ => {
                let (kind, name) = text.split_once('=').ok_or_else(unknown)?;
                let (vendor, class) = kind.split_once('/').ok_or_else(unknown)?;
                let good = is_word(vendor, "_-.") && is_word(class, "_-.") && is_word(name, "_-.:");
                good.then(|| Self::Cdi { kind: kind.to_owned(), name: name.to_owned() }).ok_or_else(unknown)?
            }
        })
    }
}

/// Letters, digits and what stands between them, as the CDI specification has it for its names.
fn is_word(text: &str, between: &str) -> bool {
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    text.len() <= 128
        && ends(text.chars().next())
        && ends(text.chars().last())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || between.contains(c))
}

fn is_render_node(text: &str) -> bool {
    let number = |rest: &str| !rest.is_empty() && rest.len() < 10 && rest.bytes().all(|byte| byte.is_ascii_digit());
    let by_path = |rest: &str| rest.strip_suffix("-render").is_some_and(|card| is_word(card, "_-.:"));
    text.strip_prefix("/dev/dri/renderD").is_some_and(number)
        || text.strip_prefix("/dev/dri/by-path/").is_some_and(by_path)
}

/// None where a class has none; each once.
pub(super) fn check(found: &mut Checker, key: &str, written: GpuWritten, privileged: bool) -> Vec<Gpu> {
    let names = match written {
        GpuWritten::All(false) => return Vec::new(),
        GpuWritten::All(true) => vec![Gpu::All.to_string()],
        GpuWritten::One(name) => vec![name],
        GpuWritten::Several(names) => names,
    };
    let mut chosen: Vec<Gpu> = Vec::new();
    for name in names {
        match name.parse() {
            Ok(gpu) => chosen.push(gpu),
            Err(problem) => found.push(
                key,
                problem,
                "write true, nvidia, amd, intel, a CDI device such as nvidia.com/gpu=0, or a render node such as \
                 /dev/dri/by-path/pci-0000:03:00.0-render",
            ),
        }
    }
    chosen.sort_unstable();
    chosen.dedup();
    found.unless(
        !(privileged && chosen.iter().any(Gpu::chooses)),
        key,
        "root in a privileged container could make nodes of the processors that are left out",
        "write true, or give the class a user namespace",
    );
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(written: GpuWritten, privileged: bool) -> (Vec<Gpu>, Vec<String>) {
        let mut found = Checker::default();
        let chosen = check(&mut found, "class.big.gpu", written, privileged);
        (chosen, found.problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn vendors_cdi_devices_and_render_nodes_are_names_and_each_counts_once() {
        let names = ["nvidia.com/gpu=GPU-4cf8db2d-06c0-7d70-1a51-e59b25b2c16c", "amd", "/dev/dri/renderD129", "amd"];
        let (chosen, problems) = checked(GpuWritten::Several(names.map(str::to_owned).to_vec()), false);
        assert_eq!(problems, [""; 0]);
        let shown: Vec<String> = chosen.iter().map(ToString::to_string).collect();
        assert_eq!(shown, [names[1], names[0], names[2]]);
        for name in ["nvidia", "intel", "nvidia.com/gpu=1:0", "/dev/dri/by-path/pci-0000:03:00.0-render"] {
            let (chosen, problems) = checked(GpuWritten::One(name.to_owned()), false);
            assert_eq!((chosen.len(), problems.len()), (1, 0), "{name}");
        }
        assert_eq!(checked(GpuWritten::All(true), true), (vec![Gpu::All], vec![]));
        assert_eq!(checked(GpuWritten::All(false), false), (vec![], vec![]));
    }

    #[test]
    fn what_names_none_is_refused_with_what_to_write() {
        let wrong = [
            "",
            "voodoo",
            "nvidia.com/gpu",
            "gpu=0",
            "nvidia.com/gpu=",
            "nvidia.com/gpu=../0",
            "/dev/dri/card0",
            "/dev/dri/renderD",
            "/dev/dri/renderD128/../../sda",
            "/dev/dri/by-path/../../sda-render",
            "/dev/sda",
        ];
        for name in wrong {
            let (chosen, problems) = checked(GpuWritten::One(name.to_owned()), false);
            assert_eq!(chosen, [], "{name:?}");
            let [problem] = &problems[..] else { panic!("{name:?}: {problems:?}") };
            assert!(problem.starts_with("class.big.gpu: ") && problem.contains("nvidia.com/gpu=0"), "{problem}");
        }
    }

    #[test]
    fn a_privileged_class_has_all_or_none() {
        let (_, problems) = checked(GpuWritten::One("nvidia.com/gpu=0".to_owned()), true);
        assert!(problems.iter().any(|problem| problem.contains("privileged")), "{problems:?}");
    }
}
