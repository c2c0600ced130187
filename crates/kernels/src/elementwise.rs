//! Functions of one number, applied to each.

/// The node `f(x)`, with `$forward(x, y)` writing the values of a run of numbers and `$slopes(x, g, d)` their
/// gradients `g f'(x)`.
macro_rules! elementwise {
    ($name:expr, $x:ident, $forward:ident, $slopes:ident) => {{
        let n = $x.elem_count();
        let y = $crate::graph::compute!($name, $x.shape(), T, |$x| {
            $crate::rows::make_rows(n, 1, 2, |first, y| {
                $forward::<T>(&$x[first..][..y.len()], y);
                Ok(())
            })?
        });
        $crate::graph::node($name, [$x], y, move |[$x], _, g| {
            let d = $crate::graph::compute!($name, $x.shape(), T, |$x, g| {
                $crate::rows::make_rows(n, 1, 2, |first, d| {
                    $slopes::<T>(&$x[first..][..d.len()], &g[first..][..d.len()], d);
                    Ok(())
                })?
            });
            Ok([Some(d.tensor())])
        })
    }};
}
pub(crate) use elementwise;
