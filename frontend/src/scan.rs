//! A look at a model's bytes before they are decoded: how many parts is it made of?
//!
//! An empty node takes two bytes in the file and some hundred in memory, so a hostile file could ask for a hundred times
//! its size. This counts parts without allocating; what is not well-formed is left for the decoder to report.

/// Fields of the model, of its graph, of the graph's nodes and their attributes, together.
pub(crate) fn parts(model: &[u8]) -> usize {
    const GRAPH: u64 = 7;
    const NODE: u64 = 1;
    const ATTRIBUTE: u64 = 5;
    let mut count = 0;
    for (number, graph) in Fields(model) {
        count += 1;
        if number != GRAPH {
            continue;
        }
        for (number, node) in Fields(graph) {
            count += 1;
            if number != NODE {
                continue;
            }
            for (number, attribute) in Fields(node) {
                count += 1;
                if number == ATTRIBUTE {
                    count += Fields(attribute).count();
                }
            }
        }
    }
    count
}

/// The fields of a message: number, and content where it has a length. Ends at the first irregularity.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }
    fn take(&mut self, n: u64) -> Option<&'a [u8]> {
        let (content, rest) = self.0.split_at_checked(usize::try_from(n).ok()?)?;
        self.0 = rest;
        Some(content)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u64, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        // No field has the number 0: a file of zeros is no message.
        let key = self.varint().filter(|key| key >> 3 != 0)?;
        let content = match key & 7 {
            0 => {
                self.varint()?;
                &[]
            }
            1 => self.take(8)?,
            2 => {
                let n = self.varint()?;
                self.take(n)?
            }
            5 => self.take(4)?,
            _ => return None,
        };
        Some((key >> 3, content))
    }
}

#[cfg(test)]
mod tests {
    use super::parts;
    use crate::proto::{AttributeProto, GraphProto, ModelProto, NodeProto};
    use prost::Message;

    #[test]
    fn counts_what_the_decoder_would_make() {
        let node = NodeProto {
            input: vec!["a".into(), "b".into()],
            attribute: vec![AttributeProto {
                i: Some(1 << 60),
                f: Some(1.0),
                ..Default::default()
            }],
            ..Default::default()
        };
        let model = ModelProto {
            ir_version: Some(8),
            graph: Some(GraphProto {
                node: vec![node; 100],
                ..Default::default()
            }),
            ..Default::default()
        };
        // Per node: itself, two inputs, an attribute with two fields.
        assert_eq!(parts(&model.encode_to_vec()), 2 + 100 * 6);
        assert_eq!(parts(&[0x3a, 0xff, 0xff]), 0);
        assert_eq!(parts(&[0; 64]), 0);
    }
}
