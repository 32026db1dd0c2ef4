//! The short form of classes: `cpu-medium-docker` is a class of that name, with its size, labels, Docker.

use std::collections::BTreeMap;

use super::{
    ClassSize,
    checker::Checker,
    file::{ClassWritten, SettingsWritten},
    gpu::GpuWritten,
    host_name,
};

/// Adds the classes that `runners` stands for. A table of the same name adds keys and overrides single ones, but takes
/// away neither Docker nor graphics processors: the word promises them.
pub(crate) fn add(found: &mut Checker, written: &SettingsWritten, classes: &mut BTreeMap<String, ClassWritten>) {
    let host = written.host_name.clone().unwrap_or_else(host_name::of_kernel);
    for (index, word) in written.runners.iter().enumerate() {
        let key = format!("runners[{index}]");
        let Some(short) = Short::parse(word) else {
            found.push(key, format!("{word:?} is not the short form of a class"), Short::remedy(word));
            continue;
        };
        found.unless(
            !written.runners[..index].contains(word),
            key,
            format!("{word:?} is named twice"),
            format!("name it once; class.{word}.max_concurrent bounds its containers"),
        );
        let class = classes.entry(word.clone()).or_default();
        class.labels.get_or_insert_with(|| short.labels(&host));
        class.size.get_or_insert(short.size);
        if short.gpu && class.gpu == GpuWritten::default() {
            class.gpu = GpuWritten::All(true);
        }
        class.docker.enable |= short.docker;
    }
}

struct Short<'a> {
    gpu: bool,
    /// The size as it is written.
    word: &'a str,
    size: ClassSize,
    docker: bool,
}

impl<'a> Short<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (kind, rest) = text.split_once('-')?;
        let (word, docker) = rest.strip_suffix("-docker").map_or((rest, false), |word| (word, true));
        let gpu = match kind {
            "cpu" => false,
            "gpu" => true,
            _ => return None,
        };
        let (_, size) = ClassSize::ALL.into_iter().find(|(name, _)| *name == word)?;
        Some(Self { gpu, word, size, docker })
    }

    /// Each once, also where the host is called as one of the others.
    fn labels(&self, host: &str) -> Vec<String> {
        let kind = if self.gpu { "gpu" } else { "cpu" };
        let category = if self.docker { "docker" } else { "generic" };
        let mut labels: Vec<String> = Vec::new();
        for label in ["self-hosted", "linux", host, kind, self.word, category] {
            if !labels.iter().any(|known| known == label) {
                labels.push(label.to_owned());
            }
        }
        labels
    }

    fn remedy(text: &str) -> String {
        let numbered = text.trim_end_matches(|c: char| c.is_ascii_digit()).strip_suffix('-');
        if let Some(word) = numbered.filter(|word| Short::parse(word).is_some()) {
            return format!("write {word:?} once, without a number; class.{word}.max_concurrent bounds its containers");
        }
        let sizes: Vec<&str> = ClassSize::ALL.iter().map(|(word, _)| *word).collect();
        format!(
            "write TYPE-SIZE or TYPE-SIZE-docker, where TYPE is cpu or gpu and SIZE is one of {}; define any other class \
             as [class.NAME]",
            sizes.join(", ")
        )
    }
}
