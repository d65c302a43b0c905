//! A row of pages that the guest uses one after another, and again from the first.

/// How far it is, and how often each page was used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Window {
    first: u64,
    step: u64,
    pages: u64,
    /// Pages that rounds were told to use since it began with the first.
    used: u64,
    laps: Vec<u64>,
}

impl Window {
    /// `pages` addresses from `first` on, `step` apart.
    pub fn new(first: u64, step: u64, pages: u64) -> Self {
        Self { first, step, pages, ..Self::default() }
    }

    /// The first address, as the guest's variable has it.
    pub fn start(&self) -> u32 {
        self.first as u32
    }

    /// Whether `count` more are left.
    pub fn has(&self, count: u64) -> bool {
        self.used + count <= self.pages
    }

    /// A round is told to use `count` more.
    pub fn take(&mut self, count: u64) {
        self.used += count;
    }

    /// How many the guest has used since the first, when its variable says `next`.
    pub fn used(&self, next: u32) -> u64 {
        u64::from(next).saturating_sub(self.first) / self.step.max(1)
    }

    /// It begins with the first again.
    pub fn again(&mut self, next: u32) {
        self.laps = self.laps(next);
        self.used = 0;
    }

    /// How often each was used, when the guest's variable says `next`.
    pub fn laps(&self, next: u32) -> Vec<u64> {
        lap(self.laps.clone(), self.used(next))
    }
}

/// Page by page, one more for each of the first `pages`.
fn lap(mut laps: Vec<u64>, pages: u64) -> Vec<u64> {
    let pages = usize::try_from(pages).unwrap_or(0);
    if laps.len() < pages {
        laps.resize(pages, 0);
    }
    laps.iter_mut().take(pages).for_each(|count| *count += 1);
    laps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_counted_lap_by_lap() {
        let mut window = Window::new(0x1000, 0x100, 3);
        assert_eq!(window.laps(0x1000), [0; 0]);
        window.take(2);
        assert!(window.has(1) && !window.has(2));
        window.again(0x1200);
        assert!(window.has(3));
        assert_eq!(window.laps(0x1300), [2, 2, 1]);
        assert_eq!(window.laps(0x1000), [1, 1]);
    }
}
