//! The query string and the pages it asks for.

use super::answer::Answer;
use serde_json::{Value, json};
use std::time::Duration;

/// Most elements of a page.
const MAX_PAGE: usize = 100;

/// Query parameters in order; where one is given twice the last counts, as with GitHub.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn parse(query: Option<&str>) -> Self {
        Self(form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned().collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .rev()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    fn number(&self, name: &str) -> Option<usize> {
        self.get(name)?.parse().ok()
    }

    pub(super) fn page(&self) -> usize {
        self.number("page").unwrap_or(1).max(1)
    }

    fn per_page(&self) -> usize {
        self.number("per_page").unwrap_or(30).clamp(1, MAX_PAGE)
    }

    /// One page of a list, with the `Link` header that leads to the others. `address` is the request's own.
    pub(super) fn cut<T>(
        &self,
        address: &str,
        key: Option<&str>,
        all: Vec<T>,
        render: impl FnMut(T) -> Value,
    ) -> Answer {
        let (total, page, per_page) = (all.len(), self.page(), self.per_page());
        let start = (page - 1).saturating_mul(per_page);
        let items: Vec<Value> = all.into_iter().skip(start).take(per_page).map(render).collect();
        let body = match key {
            Some(key) => json!({ "total_count": total, key: items }),
            None => Value::Array(items),
        };
        let answer = Answer::ok(body);
        match self.link(address, total) {
            Some(link) => answer.header("link", link),
            None => answer,
        }
    }

    fn link(&self, address: &str, total: usize) -> Option<String> {
        let (page, last) = (self.page(), total.div_ceil(self.per_page()).max(1));
        let to = |page: usize, rel: &str| {
            let mut query = form_urlencoded::Serializer::new(String::new());
            for (key, value) in self.0.iter().filter(|(key, _)| key != "page") {
                query.append_pair(key, value);
            }
            query.append_pair("page", &page.to_string());
            format!("<{address}?{}>; rel=\"{rel}\"", query.finish())
        };
        let mut links = Vec::new();
        if page > 1 {
            links.push(to(page - 1, "prev"));
        }
        if page < last {
            links.push(to(page + 1, "next"));
            links.push(to(last, "last"));
        }
        if page > 1 {
            links.push(to(1, "first"));
        }
        (!links.is_empty()).then(|| links.join(", "))
    }
}

/// A `created` filter: `2026-11-01`, `>=2026-11-01T10:00:00Z`, `<…`, `a..b`.
pub(super) fn created_matches(filter: &str, at: Duration) -> bool {
    const DAY: Duration = Duration::from_secs(86_400);
    let point = |text: &str| crate::stamp::parse(text);
    let from_to = |from: &str, to: &str| {
        // A bare day as the end means the whole day.
        let end = point(to).map(|end| if to.len() == 10 { end + DAY } else { end });
        point(from).is_none_or(|from| at >= from) && end.is_none_or(|end| at <= end)
    };
    if let Some((from, to)) = filter.split_once("..") {
        return from_to(from, to);
    }
    let compared = |operator: &str, holds: fn(&Duration, &Duration) -> bool| {
        let text = filter.strip_prefix(operator)?;
        Some(point(text).is_none_or(|point| holds(&at, &point)))
    };
    // The longer operators first: each begins with a shorter one.
    if let Some(holds) = compared(">=", Duration::ge)
        .or_else(|| compared("<=", Duration::le))
        .or_else(|| compared(">", Duration::gt))
        .or_else(|| compared("<", Duration::lt))
    {
        return holds;
    }
    match point(filter) {
        Some(day) if filter.len() == 10 => at >= day && at < day + DAY,
        Some(moment) => at.as_secs() == moment.as_secs(),
        None => true,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_last_of_a_repeated_parameter_counts() {
        let query = Query::parse(Some("status=queued&status=in_progress&x="));
        assert_eq!(query.get("status"), Some("in_progress"));
        assert_eq!(query.get("x"), None);
    }

    #[test]
    fn links_lead_to_the_other_pages() {
        let query = Query::parse(Some("per_page=2&page=2&status=queued"));
        let answer = query.cut("http://sim/x", Some("runs"), vec![1, 2, 3, 4, 5], |n| json!(n));
        assert_eq!(answer.body.unwrap(), json!({"total_count": 5, "runs": [3, 4]}));
        let link = &answer.headers[0].1;
        assert!(link.contains("<http://sim/x?per_page=2&status=queued&page=3>; rel=\"next\""), "{link}");
        assert!(link.contains("page=1>; rel=\"prev\""), "{link}");
        let last = Query::parse(None).cut("x", None, vec![1], |n| json!(n));
        assert!(last.headers.is_empty());
    }

    #[test]
    fn created_filters() {
        let at = Duration::from_secs(1_793_527_200); // 2026-11-01T10:00:00Z
        for yes in [
            ">=2026-11-01T10:00:00Z",
            ">2026-10-31",
            "<2026-11-02",
            "2026-11-01",
            "2026-10-30..2026-11-01",
            "<=2026-11-01T10:00:00+00:00",
        ] {
            assert!(created_matches(yes, at), "{yes}");
        }
        for no in [">2026-11-01T10:00:00Z", "<2026-11-01", "2026-10-31", "2026-11-02..2026-11-03"] {
            assert!(!created_matches(no, at), "{no}");
        }
    }
}
