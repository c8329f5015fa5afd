//! Schedules: their text reads back, hostile text does no harm, and every law is enforced.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;
use proptest::sample::select;
use sdc_ir::graph::{Graph, Weights};
use sdc_ir::schedule::verify::{Law, verify};
use sdc_ir::schedule::{Algorithm, Copy, Form, Grid, Part, Schedule, Storage, Tasks, Widths};
use sdc_ir::text::{Scheduled, parse_schedule};

const TEXT: &str = r#"sdir 1 schedule
graph "g" {
  %0 = input "x" : f32[2,8,6,6]{0,2,3,1}
  %1 = input "w" : f32[8,8,3,3]
  %2 = Conv(%0, %1) {strides=[1,1], pads=[1,1,1,1], dilations=[1,1], group=1, bias=false, residual=false, act=none} : f32[2,8,6,6]{0,2,3,1} from "c" Conv #0
  %3 = Relu(%2) : f32[2,8,6,6]{0,2,3,1} from "r" Relu #1
  %4 = Neg(%3) : f32[2,8,6,6]{0,2,3,1} from "n" Neg #2
  %5 = Concat(%4, %0) {axis=1} : f32[2,16,6,6]{0,2,3,1} from "k" Concat #3
  %6 = MatMul(%5, %5) {bias=false, residual=false, act=none} : f32[2,16,6,6]{0,2,3,1} from "m" MatMul #4
  %7 = Relayout(%6) : f32[2,16,6,6]{0,2,3,1} from "m" MatMul #4
  output "y" = %7
  output "z" = %5
}
schedule lanes 4 block 16 kernel_lanes 8 {
  store %0 input 0
  store %1 input 1
  store %2 arena // from run 0 to 1
  store %3 inline
  store %4 part %5
  store %5 output 1
  store %6 output 0
  store %7 view %6
  run %2 by loops rows 0..2 tasks one rows 2..6 tasks one // run 0
  run %4 by loops tasks at_most 3 // run 1
  run %5 by loops tasks one // run 2
  run %6 by gemm_f32 weights at_run tasks one tasks each 1 channels 1 // run 3
}
"#;

fn parsed() -> (Graph, Schedule) {
    parse_schedule(TEXT, &Weights::new()).unwrap_or_else(|e| panic!("{e}"))
}

fn laws(graph: &Graph, schedule: &Schedule) -> Vec<Law> {
    verify(graph, schedule).iter().map(|f| f.law).collect()
}

#[test]
fn a_sound_schedule_prints_as_it_was_and_verifies() {
    let (graph, schedule) = parsed();
    let printed = Scheduled {
        graph: &graph,
        schedule: &schedule,
    }
    .to_string();
    assert_eq!(printed, TEXT);
    assert_eq!(verify(&graph, &schedule), []);
}

/// Each edit of the text breaks the law beside it.
#[test]
fn every_law_is_enforced() {
    for (from, to, law) in [
        ("store %0 input 0", "store %0 arena", Law::Storage),
        ("store %2 arena", "store %2 inline", Law::Storage),
        ("store %4 part %5", "store %4 part %6", Law::Storage),
        ("store %7 view %6", "store %7 view %5", Law::Storage),
        ("store %2 arena", "store %2 prepared", Law::Storage),
        ("  store %5 output 1\n", "", Law::Storage),
        ("store %5 output 1", "store %5 arena", Law::Output),
        ("store %6 output 0", "store %6 output 1", Law::Output),
        ("  run %5 by loops tasks one", "  //", Law::Run),
        ("run %4 by loops", "run %3 by loops", Law::Run),
        ("run %2 by loops", "run %2 by softmax_f32", Law::Algorithm),
        ("run %4 by loops", "run %4 by winograd 4 band 2", Law::Algorithm),
        ("weights at_run", "weights constant", Law::Weights),
        ("weights at_run", "weights blocks", Law::Weights),
        ("rows 2..6", "rows 3..6", Law::Rows),
        ("rows 2..6", "rows 2..5", Law::Rows),
        ("tasks one tasks each 1 channels 1", "tasks one", Law::Rows),
        ("tasks at_most 3", "tasks at_most 0", Law::Tasks),
        ("tasks at_most 3", "tasks every 3", Law::Tasks),
        (
            "rows 2..6 tasks one",
            "rows 2..6 tasks grid 9 by 1 channels 1",
            Law::Tasks,
        ),
        ("block 16", "block 12", Law::Tasks),
    ] {
        let edited = TEXT.replacen(from, to, 1);
        assert_ne!(edited, TEXT, "{from}");
        let (graph, schedule) =
            parse_schedule(&edited, &Weights::new()).unwrap_or_else(|e| panic!("{to}: {e}"));
        let found = laws(&graph, &schedule);
        assert!(found.contains(&law), "{from} -> {to}: {found:?}");
    }
}

#[test]
fn words_that_mean_nothing_are_named() {
    for (from, to, what) in [
        ("store %2 arena", "store %2 attic", "`attic` is no place"),
        ("by gemm_f32", "by gemm_f99", "no kernel `gemm_f99`"),
        ("weights at_run", "weights late", "`late` is no form"),
        ("tasks at_most 3", "tasks some", "`some` is no cut"),
        ("store %2", "store %9", "`%9` is not defined"),
        ("store %2 arena", "store %0 arena", "stored twice"),
    ] {
        let edited = TEXT.replacen(from, to, 1);
        let error = parse_schedule(&edited, &Weights::new()).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    }
}

fn tasks() -> impl Strategy<Value = Tasks> {
    let n = || prop_oneof![0..9usize, any::<usize>()];
    prop_oneof![
        Just(Tasks::One),
        (n(), n()).prop_map(|(rounds, channels)| Tasks::Each { rounds, channels }),
        n().prop_map(Tasks::AtMost),
        n().prop_map(Tasks::Every),
        (n(), n(), n(), any::<bool>()).prop_map(|(rows, row_parts, channel_parts, rows_inside)| {
            Tasks::Grid(Grid {
                rows,
                row_parts,
                channel_parts,
                rows_inside,
            })
        }),
    ]
}

fn storage() -> impl Strategy<Value = Storage> {
    let (graph, _) = parsed();
    let values: Vec<_> = graph.values().ids().collect();
    prop_oneof![
        any::<usize>().prop_map(Storage::Input),
        (0..9usize).prop_map(Storage::Output),
        Just(Storage::Constant),
        Just(Storage::Arena),
        Just(Storage::Prepared),
        Just(Storage::Packed),
        Just(Storage::Inline),
        select(values.clone()).prop_map(Storage::View),
        select(values).prop_map(Storage::Part),
    ]
}

fn algorithm() -> impl Strategy<Value = Algorithm> {
    let kernels: Vec<_> = sdc_ir::registry::KERNELS
        .iter()
        .filter_map(|k| Algorithm::of_kernel(k.name))
        .collect();
    prop_oneof![
        Just(Algorithm::Loops),
        select(kernels),
        (any::<usize>(), any::<usize>()).prop_map(|(tile, band)| Algorithm::Winograd { tile, band }),
        (select(Algorithm::SPARSE.to_vec()), any::<usize>())
            .prop_map(|(kernel, band)| Algorithm::Sparse { kernel, band }),
    ]
}

prop_compose! {
    fn run()(
        algorithm in algorithm(),
        weights in prop::option::of(select(Form::ALL.to_vec())),
        parts in prop::collection::vec((prop::option::of((any::<usize>(), any::<usize>())), tasks()), 0..3),
    ) -> (Algorithm, Option<Form>, Vec<Part>) {
        let part = |(rows, tasks): (Option<(usize, usize)>, Tasks)| Part { rows: rows.map(|(a, b)| a..b), tasks };
        (algorithm, weights, parts.into_iter().map(part).collect())
    }
}

proptest! {
    /// Any schedule, meaningful or not, reads back; and the verifier has an opinion, not a panic.
    #[test]
    fn text_reads_back(
        lanes: u8, block: usize, kernel_lanes: usize,
        places in prop::collection::vec(storage(), 8),
        runs in prop::collection::vec(run(), 4),
        copies in prop::collection::vec((any::<usize>(), tasks()), 0..3),
    ) {
        let (graph, mut schedule) = parsed();
        schedule.widths = Widths { lanes, block, kernel_lanes };
        for (place, new) in schedule.storage.values_mut().zip(places) {
            *place = new;
        }
        for (run, (algorithm, weights, parts)) in schedule.runs.iter_mut().zip(runs) {
            (run.algorithm, run.weights, run.parts) = (algorithm, weights, parts);
        }
        schedule.copies = copies.into_iter().map(|(output, tasks)| Copy { output, tasks }).collect();
        let text = Scheduled { graph: &graph, schedule: &schedule }.to_string();
        let (graph_again, again) = parse_schedule(&text, &Weights::new()).unwrap();
        prop_assert_eq!(&again, &schedule);
        prop_assert_eq!(&graph_again, &graph);
        verify(&graph, &schedule);
    }

    #[test]
    fn damaged_text_is_refused_or_read(at in 0..TEXT.len(), with in "[ -~]{0,4}", len in 0..12usize) {
        let mut text = TEXT.to_owned();
        text.replace_range(at..(at + len).min(TEXT.len()), &with);
        if let Ok((graph, schedule)) = parse_schedule(&text, &Weights::new())
            && sdc_ir::graph::verify::verify(&graph).is_empty()
        {
            verify(&graph, &schedule);
        }
    }
}
