//! Percentiles.

/// Measured values of one thing.
#[derive(Debug, Clone, Default)]
pub struct Sample(Vec<f64>);

impl Sample {
    /// One more.
    pub fn add(&mut self, value: f64) {
        self.0.push(value);
    }

    /// Those of another one as well.
    pub fn extend(&mut self, other: &Self) {
        self.0.extend(&other.0);
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The value that so many per cent of all do not exceed (nearest rank); 0 without values.
    pub fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (sorted.len() * percent).div_ceil(100).max(1) - 1;
        sorted.get(rank).copied().unwrap_or_default()
    }
}

impl FromIterator<f64> for Sample {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}

/// Milliseconds between two times; negative when they came the other way round.
#[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
pub fn between(from: u64, to: u64) -> f64 {
    to as f64 - from as f64
}

/// A time of the simulator in milliseconds.
pub fn ms(at: std::time::Duration) -> u64 {
    u64::try_from(at.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let sample: Sample = (1..=20).rev().map(f64::from).collect();
        assert_eq!([50, 95, 100].map(|percent| sample.percentile(percent)), [10.0, 19.0, 20.0]);
        assert_eq!(Sample::default().percentile(50), 0.0);
    }
}
