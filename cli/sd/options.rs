//! The wish and the method, as options of commands and in one word.

use crate::units::parse_size;
use clap::{Args, ValueEnum};
use sdc::Preprocessing;
use sdc::compress::{CompressOptions, Solver, Wish};
use sdc_passes::decompose::released::ReleasedOptions;
use std::collections::BTreeSet;

/// What is wished for: one of these.
#[derive(Args, Debug, Clone, Default)]
#[group(multiple = false)]
pub struct WishArgs {
    /// Make the weights file this many times smaller than four bytes per weight and bias [default: 7]
    #[arg(long, value_name = "X")]
    ratio: Option<f64>,
    /// Store this many bits per weight and bias, everything counted
    #[arg(long, value_name = "X")]
    bits: Option<f64>,
    /// Keep this share of the rows of weights, over all layers that can be pruned
    #[arg(long, value_name = "X")]
    density: Option<f64>,
    /// Allow this error at the outputs: squared, relative to their variance
    #[arg(long, value_name = "X")]
    budget: Option<f64>,
    /// Make the weights file no larger than this (suffixes K, M, G)
    #[arg(long, value_name = "BYTES", value_parser = parse_size)]
    size: Option<usize>,
}

/// How weights are solved for.
#[derive(Args, Debug, Clone, Default)]
pub struct SolverArgs {
    /// With --density: keep this share of the rows of one layer, named by its node; may be repeated
    #[arg(long, value_name = "NODE=X", value_parser = parse_layer_density)]
    layer_density: Vec<(String, f64)>,
    /// Method that finds the compressed weights
    #[arg(long, value_enum, default_value_t)]
    solver: SolverName,
    /// Threshold of the released solver, in units of the weights [default: 0.001]
    #[arg(long, value_name = "X")]
    theta: Option<f64>,
    /// Inputs used for calibration at most
    #[arg(long, value_name = "N")]
    samples: Option<usize>,
    /// Seed of everything random
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Threads; 0 is as many as the machine has cores. The result does not depend on it
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub enum SolverName {
    /// the solver that the authors of SmartDeal released
    Released,
    /// exact row search under plain squared error
    RowSearch,
    /// row search weighted by what the weights alone say of the layers' inputs
    Curvature,
    /// row search weighted by measured moments, with error feedback from layer to layer
    #[default]
    Feedback,
}

/// The options in the library's terms; calibration inputs and exceptions are to be added.
pub fn settings(wish: &WishArgs, solver: &SolverArgs, image: &Preprocessing) -> CompressOptions<'static> {
    let defaults = CompressOptions::default();
    let image = image.statistics();
    CompressOptions {
        solver: solver.solver(),
        wish: wish.wish(),
        samples: solver.samples.unwrap_or(defaults.samples),
        densities: solver.layer_density.iter().cloned().collect(),
        seed: solver.seed.unwrap_or(defaults.seed),
        threads: solver.threads,
        input_mean: image.map_or(defaults.input_mean, |i| i.0),
        input_deviation: image.map_or(defaults.input_deviation, |i| i.1),
        ..defaults
    }
}

/// Options as `--sd` takes them: `ratio=8`, `bits=4,solver=curvature`...
pub fn parse(text: &str, image: &Preprocessing) -> Result<CompressOptions<'static>, String> {
    let (mut wish, mut solver) = (WishArgs::default(), SolverArgs::default());
    let mut given = BTreeSet::new();
    let mut wishes = 0;
    for item in text.split(',').filter(|item| !item.is_empty()) {
        let (key, value) = item
            .split_once('=')
            .ok_or_else(|| format!("`{item}`: expected KEY=VALUE"))?;
        if !given.insert(key) {
            return Err(format!("`{key}` is given twice"));
        }
        let number = || {
            value
                .parse::<f64>()
                .map_err(|_| format!("{key}: `{value}` is no number"))
        };
        let whole = || {
            value
                .parse::<u64>()
                .map_err(|_| format!("{key}: `{value}` is no whole number"))
        };
        wishes += usize::from(matches!(key, "ratio" | "bits" | "density" | "budget" | "size"));
        match key {
            "ratio" => wish.ratio = Some(number()?),
            "bits" => wish.bits = Some(number()?),
            "density" => wish.density = Some(number()?),
            "budget" => wish.budget = Some(number()?),
            "size" => wish.size = Some(parse_size(value)?),
            "solver" => solver.solver = SolverName::from_str(value, false)?,
            "theta" => solver.theta = Some(number()?),
            "samples" => solver.samples = Some(whole()? as usize),
            "seed" => solver.seed = Some(whole()?),
            _ => {
                return Err(format!(
                    "`{key}` is none of ratio, bits, density, budget, size, solver, theta, samples, seed"
                ));
            }
        }
    }
    if wishes > 1 {
        return Err("only one of ratio, bits, density, budget and size can be given".into());
    }
    Ok(settings(&wish, &solver, image))
}

impl WishArgs {
    /// What is asked for.
    fn wish(&self) -> Wish {
        match (self.ratio, self.bits, self.density, self.budget, self.size) {
            (Some(x), ..) => Wish::Ratio(x),
            (_, Some(x), ..) => Wish::Bits(x),
            (_, _, Some(x), ..) => Wish::Density(x),
            (_, _, _, Some(x), _) => Wish::Budget(x),
            (.., Some(x)) => Wish::Size(x),
            _ => Wish::Ratio(7.0),
        }
    }
}

impl SolverArgs {
    /// The method.
    fn solver(&self) -> Solver {
        match self.solver {
            SolverName::Released => {
                let mut options = ReleasedOptions::default();
                options.theta = self.theta.unwrap_or(options.theta);
                Solver::Released(options)
            }
            SolverName::RowSearch => Solver::RowSearch,
            SolverName::Curvature => Solver::Curvature,
            SolverName::Feedback => Solver::Feedback,
        }
    }
}

/// `NODE=X`; names may hold `=`.
fn parse_layer_density(text: &str) -> Result<(String, f64), String> {
    let (name, share) = text.rsplit_once('=').ok_or("expected NODE=X")?;
    let share = share.parse().map_err(|_| format!("`{share}` is no number"))?;
    Ok((name.to_owned(), share))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_in_one_word() {
        let parse = |text: &str| parse(text, &Preprocessing::default());
        let options = parse("size=300K,solver=curvature").unwrap();
        assert_eq!(options.wish, Wish::Size(300 << 10));
        assert_eq!(options.solver, Solver::Curvature);
        assert_eq!(parse("").unwrap().wish, Wish::Ratio(7.0));
        for bad in [
            "ratio",
            "ratio=x",
            "ratio=8,bits=4",
            "ratio=8,ratio=9",
            "colour=1",
            "solver=best",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
