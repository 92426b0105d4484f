//! Where the nodes of a picture go: in layers, what has to run first at the top.

/// Sweeps over the layers that bring nodes near what they are connected with.
const SWEEPS: usize = 4;

/// A place in a picture: layer from the top, place from the left.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Place {
    pub(super) layer: usize,
    pub(super) column: usize,
}

/// Places for nodes that need others, by number. `needs` must be free of cycles.
pub(super) fn places(needs: &[Vec<u32>]) -> Vec<Place> {
    let layers = layers(needs);
    let mut rows: Vec<Vec<u32>> = Vec::new();
    for (node, &layer) in layers.iter().enumerate() {
        if rows.len() <= layer {
            rows.resize(layer + 1, Vec::new());
        }
        rows[layer].push(node as u32);
    }
    let mut needed_by = vec![Vec::new(); needs.len()];
    for (node, needs) in needs.iter().enumerate() {
        needs.iter().for_each(|needed| needed_by[*needed as usize].push(node as u32));
    }
    let mut columns = columns(&rows, needs.len());
    for _ in 0..SWEEPS {
        rows.iter_mut().for_each(|row| settle(row, needs, &mut columns));
        rows.iter_mut().rev().for_each(|row| settle(row, &needed_by, &mut columns));
    }
    let place = |(node, &layer): (usize, &usize)| Place { layer, column: columns[node] };
    layers.iter().enumerate().map(place).collect()
}

/// The layer of each node: below all that it needs.
fn layers(needs: &[Vec<u32>]) -> Vec<usize> {
    let mut layers = vec![usize::MAX; needs.len()];
    let mut stack: Vec<u32> = (0..needs.len() as u32).collect();
    while let Some(&node) = stack.last() {
        let missing = needs[node as usize].iter().find(|n| layers[**n as usize] == usize::MAX);
        match missing {
            Some(&missing) => stack.push(missing),
            None => {
                let above = needs[node as usize].iter().map(|n| layers[*n as usize] + 1).max();
                layers[node as usize] = above.unwrap_or(0);
                stack.pop();
            }
        }
    }
    layers
}

fn columns(rows: &[Vec<u32>], nodes: usize) -> Vec<usize> {
    let mut columns = vec![0; nodes];
    for row in rows {
        row.iter().enumerate().for_each(|(column, node)| columns[*node as usize] = column);
    }
    columns
}

/// Orders a row by the mean column of each node's neighbours.
fn settle(row: &mut [u32], neighbours: &[Vec<u32>], columns: &mut [usize]) {
    let mean = |node: &u32| {
        let near = &neighbours[*node as usize];
        match near.len() {
            0 => columns[*node as usize] as f64,
            n => near.iter().map(|other| columns[*other as usize] as f64).sum::<f64>() / n as f64,
        }
    };
    let mut keyed: Vec<(f64, u32)> = row.iter().map(|node| (mean(node), *node)).collect();
    keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
    for (column, (_, node)) in keyed.into_iter().enumerate() {
        row[column] = node;
        columns[node as usize] = column;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_lie_below_what_they_need_and_lines_do_not_cross_without_need() {
        // 0 and 1 need 3 and 2, crosswise; 4 needs both.
        let places = places(&[vec![3], vec![2], vec![], vec![], vec![0, 1]]);
        assert_eq!(places.iter().map(|place| place.layer).collect::<Vec<_>>(), [1, 1, 0, 0, 2]);
        let straight = |a: usize, b: usize| places[a].column == places[b].column;
        assert!(straight(0, 3) && straight(1, 2), "{places:?}");
    }

    #[test]
    fn a_long_chain_needs_no_deep_stack() {
        let mut needs: Vec<Vec<u32>> = (1..100_000).map(|n| vec![n]).collect();
        needs.push(Vec::new());
        assert_eq!(layers(&needs)[0], 99_999);
    }
}
