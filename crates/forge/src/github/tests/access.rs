//! Tokens, installations, limits.

use github_sim::world::{Fault, InstallationSpec, LimitRules, What};
use settings::{
    renewable::Renewable,
    token_file::{Holds, SecretFile},
};

use super::*;
use crate::{ErrorKind, Forge};

const APP: &str = "[credential.app]\napp_id = 7\nprivate_key_file = \"/k\"\n";

fn app() -> String {
    format!("{APP}[[target]]\norg = \"acme\"\n[[target]]\nuser = \"octocat\"\n")
}

#[tokio::test(start_paused = true)]
async fn an_app_finds_its_installations_and_mints_one_token_for_each_however_many_ask() {
    let hub = Hub::new(Config::default());
    let github = hub.github(&app());
    let looks = ["acme/api", "acme/web", "acme/docs", "octocat/hello"].map(|name| github.look(name));
    for look in futures_util::future::join_all(looks).await {
        look.unwrap();
    }
    assert_eq!((hub.asked(SimCall::FindInstallation), hub.asked(SimCall::InstallationToken)), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn an_installation_that_is_named_is_not_looked_up() {
    let hub = Hub::new(Config::default());
    let id = hub.world.borrow_mut().set_installation(InstallationSpec::of("acme")).unwrap();
    let github = hub.github(&format!("{APP}installation_id = {id}\n[[target]]\norg = \"acme\"\n"));
    github.look("acme/api").await.unwrap();
    assert_eq!((hub.asked(SimCall::FindInstallation), hub.asked(SimCall::InstallationToken)), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_token_is_renewed_minutes_before_it_expires_and_no_call_is_ever_refused() {
    let hub = Hub::new(Config::default());
    let github = hub.github(&format!("{APP}[[target]]\nrepo = \"acme/api\"\n"));
    // A day, a look every minute.
    for _ in 0..1440 {
        github.look("acme/api").await.unwrap();
        sleep(minutes(1)).await;
    }
    let minted = hub.asked(SimCall::InstallationToken);
    assert!((24..=32).contains(&minted), "{minted} tokens a day");
    assert_eq!(hub.world.borrow().traffic().total.errors, 0);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_fails_does_not_stop_a_token_that_is_still_good() {
    let hub = Hub::new(Config::default());
    let github = hub.github(&format!("{APP}[[target]]\nrepo = \"acme/api\"\n"));
    github.look("acme/api").await.unwrap();
    sleep(minutes(52)).await;
    let down = What::Status { code: 502, message: "down".into(), headers: Vec::new() };
    hub.world.borrow_mut().inject(Fault::times(1, SimCall::InstallationToken, down));
    for _ in 0..3 {
        github.look("acme/api").await.unwrap();
        sleep(minutes(1)).await;
    }
    assert_eq!(hub.asked(SimCall::InstallationToken), 3, "first, failed, renewed");
}

#[tokio::test(start_paused = true)]
async fn a_revoked_token_is_replaced_once_for_all_also_in_the_middle_of_a_listing() {
    let hub = Hub::new(Config::default());
    hub.world.borrow_mut().add_repos("acme", "many", 150, false).unwrap();
    let github = hub.github(&format!("{APP}[[target]]\norg = \"acme\"\n"));
    github.look("acme/api").await.unwrap();
    // The second page is refused.
    hub.world.borrow_mut().inject(Fault::once(SimCall::InstallationRepos, What::Unauthorized).after(1));
    assert_eq!(github.discover("acme").await.unwrap().len(), 153);
    sleep(minutes(5)).await;
    hub.world.borrow_mut().revoke_installation_tokens();
    let before = hub.asked(SimCall::InstallationToken);
    let looks = ["acme/api", "acme/web", "acme/docs"].map(|name| github.look(name));
    for look in futures_util::future::join_all(looks).await {
        look.unwrap();
    }
    assert_eq!(hub.asked(SimCall::InstallationToken) - before, 1);
}

#[tokio::test(start_paused = true)]
async fn a_runner_is_minted_once_when_the_token_was_refused_first() {
    let hub = Hub::new(Config::default());
    let github = hub.github(&format!("{APP}[[target]]\nrepo = \"acme/api\"\n"));
    github.look("acme/api").await.unwrap();
    sleep(minutes(5)).await;
    hub.world.borrow_mut().revoke_installation_tokens();
    github.mint("acme/api", "r-1", &["x".to_owned()], None).await.unwrap();
    assert_eq!(github.list_runners("acme/api").await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_credential_that_stays_refused_is_told_and_does_not_mint_without_end() {
    let hub = Hub::new(Config::default());
    let github = hub.github(&format!("{APP}[[target]]\nrepo = \"acme/api\"\n"));
    hub.world.borrow_mut().inject(Fault::times(1000, SimCall::ListRuns, What::Unauthorized));
    for _ in 0..20 {
        assert_eq!(github.look("acme/api").await.unwrap_err().kind, ErrorKind::Unauthorized);
        sleep(Duration::from_secs(1)).await;
    }
    assert!(hub.asked(SimCall::InstallationToken) <= 2, "{}", hub.asked(SimCall::InstallationToken));
}

#[tokio::test(start_paused = true)]
async fn an_app_that_is_not_installed_is_never_taken_for_a_runner_that_is_gone() {
    let hub = Hub::new(Config::default());
    let uninstalled = InstallationSpec { installed: false, ..InstallationSpec::of("acme") };
    hub.world.borrow_mut().set_installation(uninstalled).unwrap();
    let github = hub.github(&format!("{APP}[[target]]\nrepo = \"acme/api\"\n"));
    let error = github.delete_runner("acme/api", 1).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unauthorized);
    assert!(error.message.contains("GitHub App 7 is not installed there"), "{error}");
    assert_eq!(github.job("acme/api", 1).await.unwrap_err().kind, ErrorKind::Unauthorized);
    // Installed again, it is found without a restart.
    hub.world.borrow_mut().set_installation(InstallationSpec::of("acme")).unwrap();
    github.look("acme/api").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_suspended_installation_is_told_as_such() {
    let hub = Hub::new(Config::default());
    let suspended = InstallationSpec { suspended: true, ..InstallationSpec::of("acme") };
    hub.world.borrow_mut().set_installation(suspended).unwrap();
    let error = hub.github(&app()).look("acme/api").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unauthorized);
    assert!(error.message.contains("suspended"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn nothing_secret_is_in_what_is_printed() {
    let hub = Hub::new(Config::default());
    let tokens = Session::with_token(hub.rest(), Token::new("sesame"));
    let app = App::new(7, &Token::new(KEY)).unwrap();
    let installed = Session::with_app(hub.rest(), app, super::super::Installation::Id(4711));
    let _ = super::super::Transport::send(&installed, Call::get("/rate_limit")).await;
    for printed in [format!("{tokens:?}"), format!("{installed:?}")] {
        let line = KEY.lines().nth(1).unwrap();
        assert!(!printed.contains("sesame") && !printed.contains(line) && !printed.contains("ghs_"), "{printed}");
    }
    let wrong = App::new(7, &Token::new("-----BEGIN PRIVATE KEY-----\nc2VzYW1l\n-----END PRIVATE KEY-----"));
    assert!(!wrong.unwrap_err().to_string().contains("c2VzYW1l"));
}

#[tokio::test(start_paused = true)]
async fn a_credential_that_is_limited_rests_and_the_other_one_goes_on() {
    let hub = Hub::new(Config::default());
    let github = hub.github(&app());
    github.look("acme/api").await.unwrap();
    let limited = What::RateLimitSecondary { retry_after: Some(120) };
    hub.world.borrow_mut().inject(Fault::once(SimCall::ListRuns, limited));
    let error = github.look("acme/api").await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::RateLimited(_)), "{error:?}");
    let asked = hub.asked(SimCall::ListRuns);
    let ErrorKind::RateLimited(until) = github.look("acme/web").await.unwrap_err().kind else { panic!("not limited") };
    assert!(until > hub.now() + Duration::from_secs(110));
    assert_eq!(hub.asked(SimCall::ListRuns), asked, "nothing is asked of who said to wait");
    assert!(github.allowance("acme").unwrap().paused_until.is_some());
    github.look("octocat/hello").await.unwrap();
    sleep(Duration::from_secs(121)).await;
    github.look("acme/web").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn looks_leave_the_part_of_the_limit_that_is_not_ours() {
    let rules = LimitRules { points_per_minute: None, ..LimitRules::default() };
    let hub = Hub::new(Config { rate_limit: Some(1000), limits: rules, ..Config::default() });
    let github = hub.github("token_file = \"/t\"\n[[target]]\nrepo = \"acme/api\"\n");
    let end = hub.now() + minutes(59);
    let mut served = 0;
    while hub.now() < end {
        // Every listing differs from the one before.
        hub.world.borrow_mut().inject(Fault::times(2, SimCall::ListRuns, What::StaleEtag));
        match github.look("acme/api").await {
            Ok(_) => served += 1,
            Err(error) => {
                let ErrorKind::Paced(until) = error.kind else { panic!("the forge's limit was hit: {error}") };
                sleep(until.saturating_sub(hub.now())).await;
            }
        }
        sleep(Duration::from_secs(1)).await;
    }
    let asked = hub.world.borrow().traffic().total.requests;
    assert!((350..=500).contains(&asked), "{asked} calls for half of 1000");
    assert!(served > 150, "{served}");
    github.mint("acme/api", "r-1", &["x".to_owned()], None).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn registrations_that_are_used_up_wait_and_the_looks_go_on() {
    let hub = Hub::new(Config::default());
    let github = hub.github("token_file = \"/t\"\n[[target]]\nrepo = \"acme/api\"\n");
    let label = ["x".to_owned()];
    github.look("acme/api").await.unwrap();
    github.mint("acme/api", "r-1", &label, None).await.unwrap();
    let allowed = github.allowance("acme/api").unwrap();
    assert_eq!((allowed.limit.unwrap().limit, allowed.paused_until), (5000, None), "of looks, not of registrations");
    let used_up = What::RateLimitPrimary { reset_after: 1800 };
    hub.world.borrow_mut().inject(Fault::once(SimCall::Mint, used_up));
    for name in ["r-2", "r-3"] {
        let error = github.mint("acme/api", name, &label, None).await.unwrap_err();
        assert!(matches!(error.kind, ErrorKind::RateLimited(_)), "{error:?}");
        github.look("acme/api").await.unwrap();
    }
    assert_eq!(hub.asked(SimCall::Mint), 2, "the third was not sent");
    assert_eq!(github.allowance("acme/api").unwrap().paused_until, None);
    sleep(minutes(31)).await;
    github.mint("acme/api", "r-4", &label, None).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn calls_are_counted_by_credential_and_the_forges_clock_is_compared_with_ours() {
    let hub = Hub::new(Config::default());
    let github = hub.github(
        "[credential.app]\napp_id = 7\nprivate_key_file = \"/k\"\n[credential.main]\ntoken_file = \"/t\"\n\
         [[target]]\norg = \"acme\"\ncredential = \"app\"\n\
         [[target]]\nuser = \"octocat\"\ncredential = \"main\"\n",
    );
    assert_eq!(github.traffic("app"), crate::Traffic::default());
    github.look("acme/api").await.unwrap();
    github.look("acme/api").await.unwrap();
    github.look("octocat/nowhere").await.unwrap_err();
    let app = github.traffic("app");
    assert_eq!((app.calls.succeeded, app.calls.unchanged, app.calls.refused), (2, 2, 0), "{app:?}");
    assert!(app.clock_offset.unwrap().abs() < 1.0, "{app:?}");
    assert_eq!(github.traffic("main").calls.refused, 1);

    hub.world.borrow_mut().inject(Fault::times(1, SimCall::ListRuns, What::DateSkew { seconds: -300 }));
    hub.world.borrow_mut().inject(Fault::times(1, SimCall::ListRuns, What::LostAnswer));
    github.look("acme/web").await.unwrap_err();
    let app = github.traffic("app");
    assert_eq!(app.calls.unanswered, 1, "{app:?}");
    assert!((-301.0..-299.0).contains(&app.clock_offset.unwrap()), "{app:?}");
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_refused_is_read_again_and_a_renewed_one_is_used_at_once() {
    use std::os::unix::fs::PermissionsExt;

    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("token");
    let write = |token: &str| {
        let _ = std::fs::remove_file(&path);
        std::fs::write(&path, token).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
    };
    write("expired");
    let file = SecretFile {
        key: "token_file".to_owned(),
        credential: "forge-main".to_owned(),
        path: &path,
        holds: Holds::Token,
    };
    let secret = Rc::new(Renewable::open(&file).unwrap());
    let settings = "[credential.main]\ntoken_file = \"/t\"\n[[target]]\nrepo = \"acme/api\"\ncredential = \"main\"\n";
    let settings = check(toml::from_str(settings).unwrap()).unwrap();
    let hub = Hub::new(Config::default());
    let Ok(github) =
        Github::open(&settings, |_| Ok::<_, std::convert::Infallible>(Session::with_token(hub.rest(), secret.clone())));
    assert_eq!(github.look("acme/api").await.unwrap_err().kind, ErrorKind::Unauthorized);
    assert!(github.standing("main").refused.is_some());
    write(super::TOKEN);
    github.look("acme/api").await.unwrap();
    assert_eq!(github.standing("main"), crate::Standing::default());
}
