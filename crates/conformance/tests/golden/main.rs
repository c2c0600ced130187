//! The numbers of the library against values computed with 60 digits.
//!
//! The file is the one that `GUMBEL_GOLDEN` names, or the committed copy. Nothing in it is skipped: a
//! section, a family, a quantity or a number that no check reads is a failure.
mod bernoulli;
mod case;
mod closed_forms;
mod density;
mod estimators;
mod noise;
mod paths;
mod structured;

use case::{Case, Fallible};
use serde_json::Value;

type Check = fn(&mut Case<'_>) -> Fallible<()>;

/// Sections that are checked.
const CHECKS: [(&str, Check); 13] = [
    ("density", density::check),
    ("batched", density::check_batched),
    ("univariate", noise::check_univariate),
    ("noise", noise::check_noise),
    ("cdf", noise::check_cdf),
    ("sample_path", paths::check),
    ("closed_forms", closed_forms::check),
    ("categorical", closed_forms::check_categorical),
    ("conditional_gumbel", structured::check_conditional_gumbel),
    ("estimators", estimators::check),
    ("subset", structured::check_subset),
    ("sinkhorn", structured::check_sinkhorn),
    ("sparse_maps", structured::check_sparse_maps),
];

/// The section that says how the file was made.
const META: &str = "meta";

/// JSON in which every number is a string.
///
/// The parser of `serde_json` may miss the nearest float by an ulp, which is the whole of `1 - x` near 1;
/// the one of the standard library never does.
fn parse(text: &str) -> Fallible<Value> {
    let (mut quoted, mut in_string, mut in_number) = (String::new(), false, false);
    let mut escaped = false;
    for c in text.chars() {
        let number = !in_string && matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E');
        // The `e` of `true` and `false` does not start a number.
        let number = number && (in_number || !matches!(c, 'e' | 'E'));
        if number != in_number {
            quoted.push('"');
            in_number = number;
        }
        if c == '"' && !escaped {
            in_string = !in_string;
        }
        escaped = in_string && c == '\\' && !escaped;
        quoted.push(c);
    }
    Ok(serde_json::from_str(&quoted)?)
}

/// Everything that is wrong with the library or the file.
fn failures(file: &Value) -> Vec<String> {
    let Value::Object(sections) = file else { return vec!["the file is no object".to_owned()] };
    let mut failures = Vec::new();
    for (section, cases) in sections {
        if section == META {
            continue;
        }
        let check = CHECKS.iter().find(|(name, _)| name == section);
        let (Some((_, check)), Value::Array(cases)) = (check, cases) else {
            failures.push(format!("{section}: no check for this section"));
            continue;
        };
        for (i, fields) in cases.iter().enumerate() {
            let Value::Object(fields) = fields else {
                failures.push(format!("{section}[{i}]: no object"));
                continue;
            };
            let id = fields.get("id").and_then(Value::as_str).unwrap_or("-");
            let mut case = Case::new(format!("{section}[{i}] {id}"), fields);
            if let Err(error) = check(&mut case) {
                case.fail(&*error);
            }
            failures.extend(case.finish());
        }
    }
    failures
}

fn committed() -> Fallible<Value> {
    parse(include_str!("../../golden/golden.json"))
}

#[test]
fn every_value_agrees_with_the_golden_file() -> Fallible<()> {
    let file = match std::env::var_os("GUMBEL_GOLDEN") {
        Some(path) => parse(&std::fs::read_to_string(path)?)?,
        None => committed()?,
    };
    let failures = failures(&file);
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    Ok(())
}

/// Adds a millionth to the first number in `value`.
fn perturb(value: &mut Value) -> bool {
    match value {
        Value::String(text) => match text.parse::<f64>() {
            Ok(x) if x.is_finite() => {
                *text = format!("{:e}", x + 1e-6 * x.abs().max(1e-6));
                true
            }
            _ => false,
        },
        Value::Array(items) => items.iter_mut().any(perturb),
        _ => false,
    }
}

/// The check can fail: one expected number off by a millionth, in any quantity, is reported.
#[test]
fn a_perturbed_value_is_reported() -> Fallible<()> {
    let expected: [(&str, &[&str]); 13] = [
        ("density", &["log_prob", "grad_logits", "grad_temperature", "grad_value"]),
        ("batched", &["log_prob"]),
        ("univariate", &["mean", "variance", "entropy", "mode", "median"]),
        ("noise", &["gumbel_loglog", "gumbel_flipped", "logistic", "exponential"]),
        ("cdf", &["cdf", "mean", "variance", "prob_gt_half"]),
        (
            "sample_path",
            &[
                "gumbel",
                "log_y",
                "y",
                "argmax",
                "vjp_y_logits",
                "vjp_y_temperature",
                "vjp_logy_logits",
                "vjp_logy_temperature",
                "log_prob_log_y",
                "log_prob_simplex",
            ],
        ),
        ("closed_forms", &["value", "kl_categorical"]),
        ("categorical", &["probs", "log_probs", "entropy", "kl"]),
        ("conditional_gumbel", &["perturbed_logits", "gumbel"]),
        (
            "estimators",
            &[
                "f_vertices",
                "exact_gradient",
                "expectation",
                "exact_gradient_logit0",
                "E_soft_gradient_logit0",
                "E_st_gs_gradient_logit0",
                "gumbel_rao_limit_given_class0",
                "gumbel_rao_limit_given_class1",
            ],
        ),
        ("subset", &["log_partition", "marginals", "entropy", "inclusion_gumbel_topk_k2"]),
        ("sinkhorn", &["result"]),
        ("sparse_maps", &["softmax", "sparsemax", "entmax15"]),
    ];
    let sound = committed()?;
    assert!(CHECKS.iter().all(|(section, _)| expected.iter().any(|(name, _)| name == section)));
    for (section, fields) in expected {
        for field in fields {
            let mut broken =
                Value::Object([(section.to_owned(), sound[section].clone())].into_iter().collect());
            let cases = broken[section].as_array_mut().ok_or("no such section")?;
            let case = cases.iter_mut().find(|case| case.get(*field).is_some_and(readable));
            assert!(perturb(&mut case.ok_or("no such field")?[*field]), "{section}.{field}");
            let failures = failures(&broken);
            let named = |failure: &String| failure.contains(&format!("`{field}`"));
            assert!(!failures.is_empty() && failures.iter().all(named), "{section}.{field}");
        }
    }
    Ok(())
}

fn readable(value: &Value) -> bool {
    perturb(&mut value.clone())
}

/// What no check knows is a failure, and not a case that passes.
#[test]
fn what_is_unknown_is_a_failure() -> Fallible<()> {
    for (text, complaint) in [
        (r#"{"new": []}"#, "no check for this section"),
        (r#"{"density": [{"family": "New"}]}"#, "no check for the family `New`"),
        (r#"{"univariate": [{"family": "New", "loc": 0, "scale": 1}]}"#, "family `New`"),
        (r#"{"closed_forms": [{"quantity": "a new one"}]}"#, "quantity `a new one`"),
        (r#"{"categorical": [{"logits_q": [0], "extra": [1]}]}"#, "`extra` is a quantity"),
        (r#"{"noise": [{"u": 0.5, "logistic": true}]}"#, "`gumbel_loglog` is missing"),
        (r#"{"noise": [{"u": 0.5, "gumbel_loglog": "nan"}]}"#, "`gumbel_loglog`[0]"),
        (r#"{"noise": [{"u": 0.5, "gumbel_loglog": "inf"}]}"#, "`gumbel_loglog`[0]"),
        ("[]", "no object"),
    ] {
        let failures = failures(&parse(text)?).join("\n");
        assert!(failures.contains(complaint), "{text}: {failures}");
    }
    Ok(())
}
