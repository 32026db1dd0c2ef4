//! Pages of a listing, kept with their ETag so that an unchanged page costs nothing of the rate limit
//! (docs/github.md#conditional-requests).

use std::collections::BTreeMap;

use http::HeaderMap;

/// A page as it was last read.
#[derive(Debug, Clone)]
pub(super) struct Page<T> {
    pub items: Vec<T>,
    /// Path and query of the next page.
    pub next: Option<String>,
}

/// Pages by path and query. Those not asked for between two [`PageCache::forget_unused`] are forgotten, so that the
/// cache holds what one look needs and no more.
#[derive(Debug)]
pub(super) struct PageCache<T> {
    pages: BTreeMap<String, CachedPage<T>>,
}

#[derive(Debug)]
struct CachedPage<T> {
    etag: String,
    page: Page<T>,
    used: bool,
}

impl<T> Default for PageCache<T> {
    fn default() -> Self {
        Self { pages: BTreeMap::new() }
    }
}

impl<T: Clone> PageCache<T> {
    /// The ETag to send for `path`.
    pub fn etag(&self, path: &str) -> Option<String> {
        self.pages.get(path).map(|entry| entry.etag.clone())
    }

    /// The page that a 304 for `path` stands for.
    pub fn unchanged(&mut self, path: &str) -> Option<Page<T>> {
        let entry = self.pages.get_mut(path)?;
        entry.used = true;
        Some(entry.page.clone())
    }

    /// Keeps a fresh page, if it came with an ETag.
    pub fn keep(&mut self, path: &str, etag: Option<String>, page: &Page<T>) {
        match etag {
            Some(etag) => {
                self.pages.insert(path.to_owned(), CachedPage { etag, page: page.clone(), used: true });
            }
            None => {
                self.pages.remove(path);
            }
        }
    }

    /// Forgets every page below `prefix` that was not used since the last call.
    pub fn forget_unused(&mut self, prefix: &str) {
        self.pages.retain(|path, entry| std::mem::take(&mut entry.used) || !path.starts_with(prefix));
    }
}

/// The `rel="next"` target of a `Link` header as path and query below `root_path`, so that the transport adds the
/// credential itself: an absolute link must never decide where a token goes (docs/github.md#octocrab).
pub(super) fn next_path(headers: &HeaderMap, root_path: &str) -> Option<String> {
    let link = headers.get(http::header::LINK)?.to_str().ok()?;
    let target = link.split(',').find_map(|part| {
        let (target, parameters) = part.split_once(';')?;
        parameters
            .split(';')
            .any(|parameter| parameter.trim() == "rel=\"next\"")
            .then(|| target.trim().trim_start_matches('<').trim_end_matches('>'))
    })?;
    below_root(target, root_path)
}

/// Path and query of `location` with the API root's path taken off.
pub(super) fn below_root(location: &str, root_path: &str) -> Option<String> {
    let uri: http::Uri = location.parse().ok()?;
    let path = uri.path_and_query()?.as_str();
    let rest = path.strip_prefix(root_path.trim_end_matches('/')).unwrap_or(path);
    rest.starts_with('/').then(|| rest.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn link(value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(http::header::LINK, value.parse().unwrap());
        headers
    }

    #[test]
    fn the_next_page_is_followed_as_a_path_only() {
        let headers = link(
            r#"<https://ghe.example/api/v3/repos/o/r/actions/runs?page=1>; rel="prev", <https://ghe.example/api/v3/repos/o/r/actions/runs?page=3&status=queued>; rel="next""#,
        );
        assert_eq!(next_path(&headers, "/api/v3").unwrap(), "/repos/o/r/actions/runs?page=3&status=queued");
        assert_eq!(next_path(&link(r#"<https://x/y?page=9>; rel="last""#), ""), None);
        assert_eq!(next_path(&HeaderMap::new(), ""), None);
    }

    #[test]
    fn a_page_nobody_asked_for_is_forgotten() {
        let mut cache = PageCache::default();
        let page = Page { items: vec![1], next: None };
        cache.keep("/a/1", Some("e".into()), &page);
        cache.keep("/b/1", Some("e".into()), &page);
        cache.forget_unused("/a/");
        assert!(cache.etag("/a/1").is_some());
        cache.forget_unused("/a/");
        assert!(cache.etag("/a/1").is_none());
        assert!(cache.etag("/b/1").is_some());
    }
}
