use super::*;
use proptest::prelude::*;
use sdc_ir::DType;
use sdc_ir::entity::EntityId;
use sdc_ir::graph::Origin;
use sdc_ir::tile::{BufferData, Func, FuncBuilder};

/// A module whose function `t` writes every buffer that begins there and reads every one that ends there: first those that `early`
/// says, then it writes, then it reads the others.
fn module(buffers: &[(usize, usize, usize)], funcs: usize, early: impl Fn(usize) -> bool) -> Module {
    let mut m = Module {
        name: "m".into(),
        ..Module::default()
    };
    for (i, &(bytes, _, _)) in buffers.iter().enumerate() {
        m.buffers.push(BufferData {
            dtype: DType::U8,
            len: bytes,
            kind: BufferKind::Temp,
            name: format!("value {i}"),
        });
    }
    m.funcs = (0..funcs)
        .map(|t| {
            let mut b = FuncBuilder::new();
            let byte = sdc_ir::tile::Ty::scalar(DType::U8);
            let read = |b: &mut FuncBuilder, first: bool| {
                for (i, _) in buffers
                    .iter()
                    .enumerate()
                    .filter(|(i, x)| x.2 == t && early(*i) == first)
                {
                    b.load(byte, Buffer::new(i), 0);
                }
            };
            read(&mut b, true);
            for (i, _) in buffers.iter().enumerate().filter(|(_, x)| x.1 == t) {
                let zero = b.int(byte, 0);
                b.store(Buffer::new(i), 0, zero);
            }
            read(&mut b, false);
            let origin = Origin {
                name: format!("layer{t}"),
                op: "Conv".into(),
                index: t as u32,
            };
            b.finish(format!("f{t}"), vec![origin])
        })
        .collect::<Vec<Func>>();
    m
}

/// Chains of layers with the odd long-lived buffer: sizes and intervals of real networks.
fn buffers() -> impl Strategy<Value = Vec<(usize, usize, usize)>> {
    let one =
        (0usize..5000, 0usize..20, 0usize..6).prop_map(|(s, first, span)| (s, first, (first + span).min(24)));
    proptest::collection::vec(one, 1..40)
}

fn none(_: usize) -> bool {
    false
}

fn all(_: usize) -> bool {
    true
}

proptest! {
    #[test]
    fn plans_pass_the_checker(buffers in buffers(), share in 0..4usize) {
        let m = module(&buffers, 25, |i| i % 4 < share);
        let p = plan(&m, &PlanOptions { effort: 20_000 }).unwrap();
        prop_assert_eq!(check::check(&m, &p), vec![]);
        prop_assert!(p.arena_size >= p.lower_bound);
        // The arena is no larger than its contents need, and what is live fits into it.
        let end = p.offsets.iter().filter_map(|(b, o)| Some((*o)? + allocated(m.buffers[b].bytes())?)).max();
        prop_assert_eq!(end.unwrap_or(0), p.arena_size);
        prop_assert!(p.live_bytes.iter().all(|&l| l <= p.arena_size));
        // Same input, same plan.
        prop_assert_eq!(plan(&m, &PlanOptions { effort: 20_000 }).unwrap(), p);
    }

    #[test]
    fn the_checker_finds_a_moved_buffer(buffers in buffers(), pick in any::<prop::sample::Index>()) {
        let m = module(&buffers, 25, none);
        let mut p = plan(&m, &PlanOptions { effort: 0 }).unwrap();
        let victims: Vec<(usize, usize)> = (0..buffers.len())
            .flat_map(|i| (0..buffers.len()).map(move |j| (i, j)))
            .filter(|&(i, j)| i != j && buffers[i].0 > 0 && buffers[j].0 > 0)
            .filter(|&(i, j)| buffers[i].1 <= buffers[j].2 && buffers[j].1 <= buffers[i].2)
            .collect();
        prop_assume!(!victims.is_empty());
        let (i, j) = victims[pick.index(victims.len())];
        p.offsets[Buffer::new(i)] = p.offsets[Buffer::new(j)];
        let (a, b) = (Buffer::new(i.min(j)), Buffer::new(i.max(j)));
        prop_assert!(check::check(&m, &p).contains(&check::PlanFault::Overlap(a, b)));
    }

    /// The bound against a search of all choices of pairs, at every time.
    #[test]
    fn the_bound_is_a_bound(buffers in proptest::collection::vec((0usize..9, 0usize..4, 0usize..3), 1..7)) {
        let items: Vec<Item> = buffers
            .iter()
            .map(|&(s, first, span)| Item { size: s * 64, first, last: first + span })
            .collect();
        let mut pairs = Vec::new();
        for (i, a) in items.iter().enumerate() {
            for (j, b) in items.iter().enumerate() {
                if i != j && a.last == b.first && b.last > b.first {
                    pairs.push(Pair { time: a.last, input: i, output: j });
                }
            }
        }
        pairs.truncate(10);
        let problem = Problem::new(items, pairs.clone(), 8);
        let mut least = usize::MAX;
        for mask in 0u32..1 << pairs.len() {
            let chosen: Vec<Pair> =
                pairs.iter().enumerate().filter(|(i, _)| mask >> i & 1 == 1).map(|(_, p)| *p).collect();
            let once = |key: fn(&Pair) -> usize| {
                let mut keys: Vec<usize> = chosen.iter().map(key).collect();
                keys.sort_unstable();
                keys.windows(2).all(|w| w[0] != w[1])
            };
            if once(|p| p.input) && once(|p| p.output) {
                least = least.min(problem.live_with(&chosen).into_iter().max().unwrap());
            }
        }
        prop_assert!(problem.lower_bound() <= least);
    }
}

#[test]
fn a_chain_needs_two_buffers() {
    let buffers: Vec<_> = (0..10).map(|i| (1000 + i, i, i + 1)).collect();
    let m = module(&buffers, 11, none);
    let p = plan(&m, &PlanOptions::default()).unwrap();
    assert_eq!((p.arena_size, p.lower_bound), (2048, 2048));
    assert_eq!(p.waste_percent(), 0.0);
}

#[test]
fn in_place_halves_a_chain() {
    let buffers: Vec<_> = (0..10).map(|i| (1000, i, i + 1)).collect();
    let m = module(&buffers, 11, all);
    let p = plan(&m, &PlanOptions::default()).unwrap();
    assert_eq!((p.arena_size, p.lower_bound), (1024, 1024));
    assert_eq!(p.shared.len(), 9);
    assert_eq!(check::check(&m, &p), vec![]);
    // Where the reading comes last, the same offsets are an overlap.
    assert!(!check::check(&module(&buffers, 11, none), &p).is_empty());
}

#[test]
fn pairs_whose_input_lives_on_are_not_used() {
    let buffers = [(64, 0, 2), (64, 1, 2)];
    let m = module(&buffers, 3, all);
    let p = plan(&m, &PlanOptions::default()).unwrap();
    assert_eq!((p.arena_size, p.shared.len()), (128, 0));
}

/// With the search this took minutes and gigabytes.
#[test]
fn many_live_buffers_are_planned_in_one_sweep() {
    const N: usize = 4000;
    let buffers: Vec<_> = (0..N).map(|i| (64 + i % 3 * 64, i / 2, N - i / 2)).collect();
    let items = buffers
        .iter()
        .map(|&(size, first, last)| Item { size, first, last });
    let problem = Problem::new(items.collect(), Vec::new(), N + 1);
    assert!(problem.meetings() > 1 << 20);
    let solution = place::solve(&problem, usize::MAX);
    // Nothing ends before all have begun.
    assert_eq!(solution.peak, problem.lower_bound());
}

/// Greedy by size leaves a hole here; the search must not.
#[test]
fn the_search_reaches_the_bound_where_greedy_does_not() {
    // (size in lines, first, last)
    let lines = [
        (4, 0, 1),
        (3, 0, 3),
        (2, 1, 2),
        (5, 2, 4),
        (1, 3, 5),
        (4, 4, 6),
        (6, 5, 7),
        (3, 6, 7),
        (2, 3, 6),
    ];
    let buffers: Vec<_> = lines.iter().map(|&(s, f, l)| (s * 64, f, l)).collect();
    let m = module(&buffers, 8, none);
    let p = plan(&m, &PlanOptions::default()).unwrap();
    assert_eq!(p.arena_size, p.lower_bound);
}

#[test]
fn no_temporaries_need_no_arena() {
    let p = plan(&module(&[], 3, none), &PlanOptions::default()).unwrap();
    assert_eq!((p.arena_size, p.lower_bound, p.waste_percent()), (0, 0, 0.0));
}

#[test]
fn sizes_that_overflow_are_an_error() {
    let m = module(&[(usize::MAX - 10, 0, 1)], 2, none);
    assert_eq!(plan(&m, &PlanOptions::default()), Err(PlanError::TooLarge));
    let m = module(&[(isize::MAX as usize - 100, 0, 1), (4096, 0, 1)], 2, none);
    assert_eq!(plan(&m, &PlanOptions::default()), Err(PlanError::TooLarge));
}

#[test]
fn reports_name_the_users_nodes() {
    let buffers = [(1000, 0, 1), (3000, 1, 2), (100, 2, 3)];
    let mut m = module(&buffers, 4, none);
    m.buffers[Buffer::new(1)].name = "a<b>&\"c\"".into();
    let p = plan(&m, &PlanOptions::default()).unwrap();
    let r = report::report(&m, &p);
    let table = r.to_string();
    assert!(table.contains("layer2 (Conv #2)"), "{table}");
    assert!(table.contains("arena_bytes: 4032"), "{table}");
    let json: serde_json::Value = serde_json::to_value(&r).unwrap();
    assert_eq!(json["lower_bound_bytes"], 4032);
    assert_eq!(json["buffers"][1]["bytes"], 3008);
    let picture = svg::timeline(&r);
    assert!(
        picture.starts_with("<svg") && picture.contains("layer1 (Conv #1)"),
        "{picture}"
    );
    assert!(!picture.contains("<b>"), "names are escaped: {picture}");
}

#[test]
fn too_little_ram_is_explained() {
    let buffers = [(1000, 0, 1), (3000, 1, 2), (100, 2, 3)];
    let m = module(&buffers, 4, none);
    let p = plan(&m, &PlanOptions::default()).unwrap();
    assert_eq!(explain::explain(&m, &p, 4096), None);
    let excess = explain::explain(&m, &p, 3500).unwrap();
    assert_eq!(excess.breaking, 1);
    assert_eq!(excess.worst[0].origins, ["layer1 (Conv #1)"]);
    assert_eq!(excess.worst[0].buffers[0], ("layer1: value 1".into(), 3008));
    assert_eq!(excess.advice, [explain::Advice::SmallerInput(86)]);
    assert!(
        excess.to_string().contains("4032 bytes live at layer1"),
        "{excess}"
    );
}
