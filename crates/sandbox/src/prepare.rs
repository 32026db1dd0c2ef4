//! Makes everything a container needs, one named step at a time.
//!
//! A step that fails leaves what was made to *teardown*, which systemd runs in every case (`ExecStopPost=`). What an
//! earlier try of the same name left behind is removed first.

use std::{fmt::Write, os::fd::OwnedFd, path::Path, time::Instant};

use anyhow::{Context, anyhow, bail, ensure};
use contract::ContainerName;
use kernel::netlink::{Netlink, Taken};
use settings::{IDS, Root, Service, Settings, pool::container_address};
use strum::{EnumString, IntoStaticStr, VariantArray, VariantNames};

use super::{
    ContainerPlan, Paths, caches, devices, docker, firewall, gc_root, gpu, graphics, groups, guest, ids, inbox, link,
    lock, plan::file_name_of, private::make_private, record, record::RecordDirectory, rootfs, sized, stores, teardown,
    tree, udev, udev::Udev, user_namespace::Starting,
};

/// The steps, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, EnumString, IntoStaticStr, VariantArray, VariantNames)]
#[strum(serialize_all = "kebab-case", parse_err_ty = String, parse_err_fn = unknown)]
pub enum Step {
    /// Remove what an earlier try left, make the record directory.
    Record,
    /// Bound the control groups that can be made inside.
    Groups,
    /// Read and judge what the controller handed over.
    Accept,
    /// Claim the subnet, write the plan.
    Claim,
    /// Make the pair of links: so early that udev looks at them while the rest is made.
    Link,
    /// See that the firewall is whole, and add the container to it.
    Fence,
    /// Write the grant and the guest's settings.
    Credentials,
    /// Make the directories of the root file system; hold the system it boots, if it is one of the Nix store.
    Directories,
    /// Mount the template, its ids shifted.
    Lower,
    /// Mount the overlay.
    Overlay,
    /// Put the guest where the systemd of a tree finds it, and settle what workflows expect.
    Guest,
    /// Make or mount what cannot lie on an overlay.
    Stores,
    /// Mount the directory of the event socket.
    Events,
    /// Wait until udev has done with both links, where it runs.
    Udev,
    /// Address the host's end.
    Address,
}

impl Step {
    /// Every step, in order.
    pub const ALL: &[Self] = <Self as VariantArray>::VARIANTS;

    /// Its name in records, messages and arguments.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

fn unknown(_: &str) -> String {
    format!("the steps are: {}", <Step as VariantNames>::VARIANTS.join(", "))
}

/// What *prepare* works on.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Where everything lies.
    pub paths: &'a Paths,
    /// The settings file; root's own.
    pub settings: &'a Path,
    /// The class in the unit's name.
    pub class: &'a str,
    /// The container.
    pub name: &'a ContainerName,
    /// Fail on purpose when this step is done, to prove that teardown copes.
    pub fail_after: Option<Step>,
}

/// Does every step. An error is also kept in the record, for the ending.
pub fn prepare(request: Request<'_>) -> anyhow::Result<ContainerPlan> {
    let record = RecordDirectory::at(request.paths.record(request.name));
    let mut work = Work::new(request, record.clone());
    let result = work.run();
    if let Err(error) = &result {
        record.put_error(&format!("prepare: {error:#}"));
    }
    result
}

fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

/// What the steps hand each other.
struct Work<'a> {
    request: Request<'a>,
    record: RecordDirectory,
    settings: Option<Settings>,
    accepted: Option<inbox::Accepted>,
    plan: Option<ContainerPlan>,
    helper: Option<Starting>,
    namespace: Option<OwnedFd>,
    netlink: Option<Netlink>,
}

impl<'a> Work<'a> {
    fn new(request: Request<'a>, record: RecordDirectory) -> Self {
        Self {
            request,
            record,
            settings: None,
            accepted: None,
            plan: None,
            helper: None,
            namespace: None,
            netlink: None,
        }
    }

    fn run(&mut self) -> anyhow::Result<ContainerPlan> {
        let begun = Instant::now();
        let mut steps = String::new();
        for &step in Step::ALL {
            let step_begun = Instant::now();
            if step > Step::Record {
                self.record.put_step(step.name())?;
            }
            self.perform(step).with_context(|| format!("step {}", step.name()))?;
            // Writing to a String does not fail.
            let _ = write!(steps, "{} {} {:.1}", if steps.is_empty() { ":" } else { "," }, step.name(), ms(step_begun));
            if self.request.fail_after == Some(step) {
                bail!("step {} was to be the last (--fail-after)", step.name());
            }
        }
        self.record.put_step(record::PREPARED)?;
        let plan = self.plan()?.clone();
        println!(
            "prepared {} in {:.1} ms: class {}, subnet {}, ids from {}",
            plan.name,
            ms(begun),
            plan.class,
            plan.subnet,
            plan.uid_base
        );
        println!("steps in ms{steps}");
        Ok(plan)
    }

    fn perform(&mut self, step: Step) -> anyhow::Result<()> {
        let Request { paths, name, .. } = self.request;
        let layers = paths.layers(name);
        match step {
            Step::Record => self.begin(),
            Step::Groups => groups::bound(self.request.class, name),
            Step::Accept => self.accept(),
            Step::Claim => self.claim(),
            Step::Link => Ok(link::make(self.netlink()?, name, self.plan()?.subnet)?),
            Step::Fence => {
                let plan = self.plan()?;
                let settings = self.settings.as_ref().context("there are no settings")?;
                firewall::admit(settings, name, &plan.class, container_address(plan.subnet))
            }
            Step::Credentials => {
                let accepted = self.accepted.as_ref().context("nothing was accepted")?;
                self.record.put_credentials(&self.plan()?.guest(), &accepted.grant)
            }
            Step::Directories => {
                let plan = self.plan()?;
                if let Root::System { closure, .. } = &plan.root {
                    gc_root::hold(&paths.gc_roots, name, closure)?;
                }
                if let Some(size) = plan.disk {
                    sized::make_room(&paths.disk(name), size, &layers)?;
                }
                rootfs::directories(&layers, &plan.root, plan.nix_store.as_deref(), plan.uid_base)
            }
            Step::Lower => {
                let helper = self.helper.take().context("no helper was started")?;
                let plan = self.plan()?;
                let namespace = helper.finish(plan.uid_base).context("cannot make a user namespace")?;
                rootfs::overlays(&layers, &plan.root, plan.nix_store.as_deref())
                    .iter()
                    .try_for_each(|overlay| rootfs::mount_lower(overlay, &namespace))?;
                self.namespace = Some(namespace);
                Ok(())
            }
            Step::Overlay => {
                let plan = self.plan()?;
                for overlay in &rootfs::overlays(&layers, &plan.root, plan.nix_store.as_deref()) {
                    // Only now there is a tree to make it in.
                    if let (Root::Tree(_), Ok(inside)) = (&plan.root, overlay.at.strip_prefix(paths.root(name))) {
                        drop(rootfs::make_directory(&layers, inside, plan.uid_base)?);
                    }
                    rootfs::mount_overlay(overlay, rootfs::device_files(plan.privileged))?;
                }
                Ok(())
            }
            Step::Guest => match &self.plan()?.root {
                Root::Tree(_) => {
                    let uid_base = self.plan()?.uid_base;
                    guest::put(&layers, &paths.guest, uid_base)?;
                    tree::settle(&layers, uid_base)
                }
                Root::System { .. } => Ok(()),
            },
            Step::Stores => {
                let namespace = self.namespace.take().context("there is no user namespace")?;
                let plan = self.plan()?;
                stores::make_room(paths, plan)?;
                docker::make(paths, plan, &namespace)?;
                if let Some(gpu) = &plan.graphics {
                    graphics::make(&layers, gpu, plan.uid_base)?;
                }
                devices::make(&layers, plan)?;
                caches::make(paths, plan, &namespace)
            }
            Step::Events => rootfs::mount_events(&paths.event(name), self.plan()?.uid_base),
            Step::Udev => self.await_udev(),
            Step::Address => {
                let plan = self.plan()?;
                let loopback = plan.services.iter().any(Service::is_on_loopback);
                link::address(self.netlink()?, name, plan.subnet, loopback)
            }
        }
    }

    fn await_udev(&self) -> anyhow::Result<()> {
        let (udev, netlink, name) = (Udev::default(), self.netlink()?, self.request.name);
        if !udev.is_expected()? {
            return Ok(());
        }
        let mut links = Vec::new();
        for link in [link::host_end(name), link::guest_end(name)] {
            let index = netlink.link(&link)?.with_context(|| format!("link {link} is gone"))?;
            links.push((link, index));
        }
        udev.settle(&links, udev::PATIENCE)
    }

    fn plan(&self) -> anyhow::Result<&ContainerPlan> {
        self.plan.as_ref().context("there is no plan")
    }

    fn netlink(&self) -> anyhow::Result<&Netlink> {
        self.netlink.as_ref().context("there is no netlink connection")
    }

    fn begin(&mut self) -> anyhow::Result<()> {
        let Request { paths, name, .. } = self.request;
        // Takes a moment to start and is needed late, so it starts first.
        self.helper = Some(Starting::start(&paths.helper)?);
        self.netlink = Some(Netlink::open()?);
        make_private(&paths.records)?;
        make_private(&paths.roots)?;
        let _lock = lock::take(&paths.records)?;
        if teardown::remains(paths, name, self.netlink()?) {
            let left = teardown::remove(paths, name, self.netlink.as_ref());
            ensure!(left.is_empty(), "an earlier container of this name is still there: {}", left.join("; "));
        }
        self.record.create()
    }

    fn accept(&mut self) -> anyhow::Result<()> {
        let Request { paths, settings, class, name, .. } = self.request;
        let settings = settings::resolved::read(settings).context("settings")?;
        let accepted = inbox::read(&paths.handover, name, class, &settings)?;
        let mut plan = ContainerPlan::new(&accepted, &settings)?;
        let class = settings.classes.get(&plan.class).context("the class is gone")?;
        plan.fence = firewall::chain_of(class, &settings);
        if !class.gpu.is_empty() {
            let found = gpu::find(Path::new("/"), &class.name, &class.gpu);
            plan.graphics = Some(found.map_err(|problem| anyhow!("{problem}"))?.gpu);
        }
        self.plan = Some(plan);
        self.accepted = Some(accepted);
        self.settings = Some(settings);
        Ok(())
    }

    /// Two containers that claim the same subnet at once wait for each other here, and the second one loses.
    fn claim(&mut self) -> anyhow::Result<()> {
        let mut plan = self.plan()?.clone();
        let netlink = self.netlink()?;
        let settings = self.settings.as_ref().context("there are no settings")?;
        let index = self.accepted.as_ref().context("nothing was accepted")?.subnet_index;
        let _lock = lock::take(&self.request.paths.records)?;
        let mut others = record::plans(&self.request.paths.records).context("cannot list the other containers")?;
        others.retain(|other| other.name != plan.name);
        if let Some(other) = others.iter().find(|other| other.subnet == plan.subnet) {
            bail!("subnet {} belongs to container {}", plan.subnet, other.name);
        }
        if let Some(Taken { network, link }) = link::collision(plan.subnet, &netlink.taken()?) {
            bail!("subnet {} collides with {network}, which the host reaches by {link}", plan.subnet);
        }
        if !plan.privileged {
            let taken: Vec<u32> = others.iter().filter(|its| !its.privileged).map(|its| its.uid_base).collect();
            plan.uid_base = ids::free(settings, index, &taken).context("every range of ids is taken")?;
            ids::refuse_foreign(Path::new("/etc"), &(plan.uid_base..plan.uid_base + IDS))?;
        }
        if plan.keeps_for_target() {
            let scope = &self.accepted.as_ref().context("nothing was accepted")?.record.scope;
            let name = file_name_of(scope).with_context(|| format!("scope {scope:?} cannot name a file"))?;
            plan.target = Some(name);
        }
        plan.store = docker::store(&plan, &others);
        self.record.put_plan(&plan)?;
        self.plan = Some(plan);
        Ok(())
    }
}
