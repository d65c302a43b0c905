//! Where the panes of a tab with many panes are: beside and below each other where there is room, else
//! the most important ones below each other.

use crate::{state::Pane, ui::paint::below};
use ratatui::layout::Rect;

/// A pane and how it may be placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item {
    /// Which.
    pub pane: Pane,
    /// Rows that it can use.
    pub want: u16,
    /// Panes with a lower number stay longer when there is little room.
    pub rank: u8,
    /// Where it is when there is room.
    pub place: Place,
}

/// Where a pane is when there is room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// At the top, as wide as there is room.
    Top,
    /// In the left column.
    Left,
    /// In the right column.
    Right,
    /// At the bottom, as wide as there is room.
    Bottom,
}

/// From this size on there are two columns.
const WIDE: (u16, u16) = (110, 28);
/// Rows that a pane needs to say anything: its rule, a header, two rows.
const LEAST: u16 = 4;
/// The same of a list of events, of which two say little.
const LEAST_LIST: u16 = 5;

/// Places for the panes, and those that have none.
pub fn arrange(area: Rect, items: &[Item], focus: Pane) -> (Vec<(Pane, Rect)>, Vec<Pane>) {
    if area.width >= WIDE.0
        && area.height >= WIDE.1
        && let Some(placed) = columns(area, items, focus)
    {
        return (placed, Vec::new());
    }
    stacked(area, items, focus)
}

/// The width that panes of a place have.
pub fn width(area: Rect, place: Place) -> u16 {
    let beside = area.width >= WIDE.0 && area.height >= WIDE.1;
    match place {
        Place::Left | Place::Right if beside => area.width / 2,
        _ => area.width,
    }
}

fn least(item: &Item) -> u16 {
    item.want.min(if item.place == Place::Bottom { LEAST_LIST } else { LEAST })
}

fn sum(items: &[Item], of: impl Fn(&Item) -> u16) -> u16 {
    items.iter().map(of).fold(0, u16::saturating_add)
}

/// Top, two columns, bottom; `None` where a column has no room for each of its panes.
fn columns(area: Rect, items: &[Item], focus: Pane) -> Option<Vec<(Pane, Rect)>> {
    let at = |place: Place| -> Vec<Item> {
        items.iter().filter(|item| item.place == place).copied().collect()
    };
    let (top, left, right, bottom) =
        (at(Place::Top), at(Place::Left), at(Place::Right), at(Place::Bottom));
    let needed = sum(&left, least).max(sum(&right, least));
    let wanted = sum(&left, |item| item.want).max(sum(&right, |item| item.want));
    let has_focus = |items: &[Item]| items.iter().any(|item| item.pane == focus);
    let bottom_least = sum(&bottom, |item| item.want.min(6));
    let top_height =
        sum(&top, |item| item.want).min(area.height / if has_focus(&top) { 2 } else { 4 });
    let rest = area.height.checked_sub(top_height)?;
    let most = rest.checked_sub(bottom_least).filter(|most| *most >= needed)?;
    // The list at the bottom has a third at least, more when it has the cursor.
    let share = if has_focus(&bottom) { rest / 2 } else { rest * 2 / 3 };
    let middle = wanted.min(most).min(share.max(needed));
    let bottom_height = rest - middle;
    let mut out = Vec::new();
    place(&mut out, Rect { height: top_height, ..area }, &top, focus);
    let half = area.width.saturating_sub(1) / 2;
    let band = Rect { height: middle, ..below(area, top_height) };
    place(&mut out, Rect { width: half, ..band }, &left, focus);
    let beside = Rect { x: band.x + half + 1, width: band.width - half - 1, ..band };
    place(&mut out, beside, &right, focus);
    let under = below(area, top_height + middle);
    place(&mut out, Rect { height: bottom_height, ..under }, &bottom, focus);
    Some(out)
}

/// As many as have room, the one with the cursor always, below each other.
fn stacked(area: Rect, items: &[Item], focus: Pane) -> (Vec<(Pane, Rect)>, Vec<Pane>) {
    let mut order: Vec<&Item> = items.iter().collect();
    order.sort_by_key(|item| (item.pane != focus, item.rank));
    // The pane with the cursor has two fifths at least: it is what one looks at.
    let least = |item: &Item| match item.pane == focus {
        true => item.want.min(LEAST.max(area.height * 2 / 5)),
        false => least(item),
    };
    // A line says which panes have no place.
    let room =
        if sum(items, least) > area.height { area.height.saturating_sub(1) } else { area.height };
    let mut kept: Vec<Pane> = Vec::new();
    let mut used = 0;
    for item in order {
        if used + least(item) <= room || kept.is_empty() {
            used += least(item);
            kept.push(item.pane);
        }
    }
    let (shown, hidden): (Vec<Item>, Vec<Item>) =
        items.iter().partition(|item| kept.contains(&item.pane));
    let mut out = Vec::new();
    place(&mut out, Rect { height: room, ..area }, &shown, focus);
    (out, hidden.into_iter().map(|item| item.pane).collect())
}

/// Divides an area among panes below each other.
fn place(out: &mut Vec<(Pane, Rect)>, area: Rect, items: &[Item], focus: Pane) {
    let mut y = 0;
    for (item, height) in items.iter().zip(heights(area.height, items, focus)) {
        let height = height.min(area.height.saturating_sub(y));
        out.push((item.pane, Rect { height, ..below(area, y) }));
        y += height;
    }
}

/// The least of each, then most of the rest to the one with the cursor, then to the others by their
/// importance; what nobody needs to the last.
fn heights(height: u16, items: &[Item], focus: Pane) -> Vec<u16> {
    let mut out: Vec<u16> = items.iter().map(least).collect();
    let mut left = height.saturating_sub(out.iter().fold(0, |sum, &h| sum.saturating_add(h)));
    let fits = sum(items, |item| item.want) <= height;
    let mut order: Vec<usize> = (0..items.len()).collect();
    order.sort_by_key(|&i| (items[i].pane != focus, items[i].rank));
    let most = |i: usize| if fits || items[i].pane != focus { height } else { height * 3 / 5 };
    let again = order.clone();
    for (i, most) in
        order.into_iter().map(|i| (i, most(i))).chain(again.into_iter().map(|i| (i, height)))
    {
        let more = items[i].want.min(most).saturating_sub(out[i]).min(left);
        out[i] += more;
        left -= more;
    }
    if let Some(last) = out.last_mut() {
        *last += left;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PANES: [(Pane, Place); 7] = [
        (Pane::Table, Place::Top),
        (Pane::Faults, Place::Left),
        (Pane::Mmio, Place::Right),
        (Pane::Pages, Place::Left),
        (Pane::Dirty, Place::Right),
        (Pane::Roots, Place::Left),
        (Pane::Events, Place::Bottom),
    ];

    fn items(wants: [u16; 7]) -> Vec<Item> {
        PANES
            .into_iter()
            .zip(wants)
            .zip([3, 1, 2, 4, 5, 6, 0])
            .map(|(((pane, place), want), rank)| Item { pane, want, rank, place })
            .collect()
    }

    #[test]
    fn all_have_a_place_on_a_large_screen() {
        let (placed, hidden) =
            arrange(Rect::new(0, 0, 160, 46), &items([7, 8, 12, 9, 9, 9, 900]), Pane::Table);
        assert_eq!((placed.len(), hidden.len()), (7, 0));
        assert!(placed.iter().all(|(_, area)| area.height >= 4), "{placed:?}");
    }

    #[test]
    fn the_most_important_have_a_place_on_a_small_one() {
        let items = items([6, 8, 12, 9, 9, 9, 900]);
        let shown = |focus| -> Vec<Pane> {
            let (placed, _) = arrange(Rect::new(0, 0, 80, 20), &items, focus);
            placed.into_iter().map(|(pane, _)| pane).collect()
        };
        assert_eq!(shown(Pane::Table), [Pane::Table, Pane::Faults, Pane::Mmio, Pane::Events]);
        assert_eq!(shown(Pane::Roots), [Pane::Faults, Pane::Roots, Pane::Events]);
        assert_eq!(shown(Pane::Events), [Pane::Faults, Pane::Mmio, Pane::Events]);
    }

    proptest! {
        #[test]
        fn panes_are_inside_and_do_not_overlap(
            width in 1u16..260, height in 1u16..90, wants in prop::array::uniform7(0u16..300),
            focus in 0usize..7,
        ) {
            let area = Rect::new(0, 3, width, height);
            let (placed, hidden) = arrange(area, &items(wants), PANES[focus].0);
            prop_assert_eq!(placed.len() + hidden.len(), 7);
            prop_assert!(!hidden.contains(&PANES[focus].0));
            for (i, (pane, one)) in placed.iter().enumerate() {
                prop_assert!(one.is_empty() || area.union(*one) == area, "{:?} {:?}", pane, one);
                for (_, other) in &placed[..i] {
                    prop_assert!(!one.intersects(*other) || one.is_empty() || other.is_empty());
                }
            }
        }
    }
}
