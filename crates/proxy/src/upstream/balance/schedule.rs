//! The order of turns: smooth weighted round robin, written out once.

/// Longest order. Weights that need a longer one are scaled down.
const LONGEST: u64 = 8192;

/// Indexes, each as often as its weight says and spread as evenly as can be: for weights 5, 1, 1 the
/// order is a a b a c a a.
pub(super) fn turns(weights: &[(u32, u32)]) -> Box<[u32]> {
    let divisor = weights
        .iter()
        .fold(0, |so_far, (_, weight)| gcd(so_far, *weight))
        .max(1);
    let mut weights: Vec<(u32, i64)> = weights
        .iter()
        .map(|(index, weight)| (*index, i64::from(weight / divisor)))
        .collect();
    let total: u64 = weights.iter().map(|(_, weight)| weight.unsigned_abs()).sum();
    if total > LONGEST {
        let longest = i128::from(LONGEST);
        for (_, weight) in &mut weights {
            let scaled = i128::from(*weight) * longest / i128::from(total);
            *weight = i64::try_from(scaled).unwrap_or(1).max(1);
        }
    }
    smooth(&weights)
}

fn smooth(weights: &[(u32, i64)]) -> Box<[u32]> {
    let total: i64 = weights.iter().map(|(_, weight)| weight).sum();
    if total == i64::try_from(weights.len()).unwrap_or(i64::MAX) {
        return weights.iter().map(|(index, _)| *index).collect();
    }
    let mut credit = vec![0; weights.len()];
    let mut order = Vec::with_capacity(usize::try_from(total).unwrap_or(0));
    for _ in 0..total {
        let mut best = 0;
        for (at, (_, weight)) in weights.iter().enumerate() {
            credit[at] += weight;
            if credit[at] > credit[best] {
                best = at;
            }
        }
        credit[best] -= total;
        order.push(weights[best].0);
    }
    order.into()
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}
