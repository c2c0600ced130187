//! From control polygons to ink on pixels, with `+ - * /`, square roots and comparisons only.
use crate::glyphs::Point;
use crate::strokes::{DIM, SIDE};

/// Straight pieces per quadratic piece of a curve.
const PIECES: u32 = 6;

/// A straight piece of a stroke: two ends, with the radius of the pen at each.
pub(crate) type Piece = [(Point, f64); 2];

/// The quadratic B-spline of a control polygon as a chain of short straight pieces.
pub(crate) fn flatten(polygon: &[Point]) -> Vec<Point> {
    let middle = |a: Point, b: Point| ((a.0 + b.0) / 2., (a.1 + b.1) / 2.);
    let [first, .., last] = polygon else { return polygon.to_vec() };
    let mut chain = vec![*first];
    let count = polygon.len().saturating_sub(2);
    for (i, window) in polygon.windows(3).enumerate() {
        let [before, control, after] = window else { continue };
        let start = if i == 0 { *before } else { middle(*before, *control) };
        let end = if i + 1 == count { *after } else { middle(*control, *after) };
        for piece in 1..=PIECES {
            let t = f64::from(piece) / f64::from(PIECES);
            let (a, b, c) = ((1. - t) * (1. - t), 2. * t * (1. - t), t * t);
            chain.push((
                a * start.0 + b * control.0 + c * end.0,
                a * start.1 + b * control.1 + c * end.1,
            ));
        }
    }
    if count == 0 {
        chain.push(*last);
    }
    chain
}

/// Puts the ink of one piece onto the image: the nearest piece of the digit decides a pixel.
pub(crate) fn ink_piece(ink: &mut [f64; DIM], [(a, from), (b, to)]: Piece, edge: f64) {
    let reach = from.max(to) + edge;
    let pixels = |low: f64, high: f64| {
        // The centre of pixel `i` is at `i + 1/2`; the cast saturates at 0.
        let first = (low - reach).max(0.) as usize;
        first..((high + reach).max(0.) as usize + 1).min(SIDE)
    };
    let along = (b.0 - a.0, b.1 - a.1);
    let square = (along.0 * along.0 + along.1 * along.1).max(1e-12);
    for row in pixels(a.1.min(b.1), a.1.max(b.1)) {
        for column in pixels(a.0.min(b.0), a.0.max(b.0)) {
            let to_pixel = (column as f64 + 0.5 - a.0, row as f64 + 0.5 - a.1);
            let t = (to_pixel.0 * along.0 + to_pixel.1 * along.1) / square;
            let t = t.clamp(0., 1.);
            let off = (to_pixel.0 - t * along.0, to_pixel.1 - t * along.1);
            let distance = (off.0 * off.0 + off.1 * off.1).sqrt();
            let inside = (from + t * (to - from) - distance) / (2. * edge) + 0.5;
            let inside = inside.clamp(0., 1.);
            let shade = inside * inside * (3. - 2. * inside);
            if let Some(ink) = ink.get_mut(row * SIDE + column) {
                *ink = ink.max(shade);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_starts_and_ends_where_its_polygon_does_and_passes_through_corners() {
        let polygon = [(0., 0.), (1., 0.), (2., 1.), (2., 1.), (3., 0.)];
        let chain = flatten(&polygon);
        assert_eq!((chain[0], chain[chain.len() - 1]), ((0., 0.), (3., 0.)));
        assert!(chain.contains(&(2., 1.)), "{chain:?}");
        assert_eq!(flatten(&polygon[..2]), polygon[..2]);
        assert_eq!(flatten(&polygon[..1]), polygon[..1]);
    }

    #[test]
    fn ink_is_full_under_the_pen_fades_at_its_edge_and_is_never_put_beside_the_image() {
        let mut ink = [0.; DIM];
        ink_piece(&mut ink, [((4.5, 10.5), 2.), ((20.5, 10.5), 2.)], 0.5);
        let column: Vec<f64> = (7..14).map(|row| ink[row * SIDE + 12]).collect();
        assert_eq!(column, [0., 0.5, 1., 1., 1., 0.5, 0.]);
        let mut outside = [0.; DIM];
        ink_piece(&mut outside, [((-9., -9.), 2.), ((-5., 90.), 2.)], 0.5);
        ink_piece(&mut outside, [((90., 5.), 2.), ((90., 5.), 2.)], 0.5);
        assert!(outside.iter().all(|ink| *ink == 0.));
    }
}
