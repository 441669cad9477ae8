use super::*;

fn words(list: &[&str]) -> Vocabulary {
    Vocabulary::Words(Words::new(list.iter().copied()).unwrap())
}

fn decode(vocabulary: &Vocabulary, tokens: &[u32]) -> String {
    let mut text = Vec::new();
    for &token in tokens {
        vocabulary.append_to(&mut text, token);
    }
    String::from_utf8(text).unwrap()
}

#[test]
fn bytes_are_themselves() {
    let prompt = "In the beginning\n§";
    let tokens = Vocabulary::Bytes.encode(prompt).unwrap();
    assert_eq!(tokens[..3], [73, 110, 32]);
    assert_eq!((decode(&Vocabulary::Bytes, &tokens), Vocabulary::Bytes.len()), (prompt.to_owned(), 256));
}

#[test]
fn words_come_back_with_single_spaces() {
    let vocabulary = words(&["the", EOS, "king", ","]);
    let tokens = vocabulary.encode(" the  king ,\n\n the\tking").unwrap();
    assert_eq!(tokens, [0, 2, 3, 1, 1, 0, 2]);
    assert_eq!(decode(&vocabulary, &tokens), "the king ,\n\nthe king");
}

/// A prompt that ends with its line goes on with the next.
#[test]
fn a_prompt_ends_where_it_ends() {
    let vocabulary = words(&["the", EOS]);
    for (prompt, expected) in [("", &[][..]), ("the", &[0]), ("the\n", &[0, 1]), ("\n\n", &[1, 1])] {
        assert_eq!(vocabulary.encode(prompt).unwrap(), expected, "{prompt:?}");
    }
}

#[test]
fn a_word_that_is_not_there_is_unknown_or_an_error() {
    assert_eq!(words(&["the", UNK]).encode("the queen").unwrap(), [0, 1]);
    let error = words(&["the"]).encode(&"queen".repeat(100)).unwrap_err().to_string();
    assert!(error.starts_with("the prompt: the word \"queenqueen") && error.len() < 300, "{error}");
    // A prompt of two lines needs <eos>.
    assert!(words(&["the"]).encode("the\nthe").unwrap_err().to_string().contains("<eos>"));
}

#[test]
fn a_word_has_one_number() {
    let error = Words::new(["a", "b", "a"]).unwrap_err().to_string();
    assert!(error.contains("\"a\" twice"), "{error}");
    let list = Words::new(["a", "b"]).unwrap();
    assert_eq!((list.id("b"), list.id("c"), list.list()[0].as_ref()), (Some(1), None, "a"));
}

#[test]
fn it_is_the_same_from_a_file() {
    for (vocabulary, json) in
        [(Vocabulary::Bytes, "\"bytes\""), (words(&["b", EOS, "\0"]), r#"{"words":["b","<eos>","\u0000"]}"#)]
    {
        assert_eq!(serde_json::to_string(&vocabulary).unwrap(), json);
        assert_eq!(serde_json::from_str::<Vocabulary>(json).unwrap(), vocabulary);
    }
    let error = serde_json::from_str::<Vocabulary>(r#"{"words":["a","a"]}"#).unwrap_err().to_string();
    assert!(error.contains("\"a\" twice"), "{error}");
}

/// `"a\u{1c}b\u{a0}c\u{3000}d\u{200b}e\r".split()` in Python.
#[test]
fn white_space_is_pythons() {
    let split: Vec<_> = split_words("a\u{1c}b\u{a0}c\u{3000}d\u{200b}e\u{85}f\0\r\n").collect();
    assert_eq!(split, ["a", "b", "c", "d\u{200b}e", "f\0"]);
}
