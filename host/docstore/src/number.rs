//! Numbers of four BSON types as one ordered line, compared exactly: an int64
//! beyond 2^53, the double beside it and a Decimal128 between them are three
//! different numbers, while 1, 1.0 and Decimal128 "1.00" are one.

use std::cmp::Ordering;

use crate::value::{Kind, Value};

/// The exponent bias of Decimal128.
const DECIMAL_BIAS: i32 = 6176;
/// Digits of a Decimal128.
const DECIMAL_DIGITS: u32 = 34;
/// Above every decimal's adjusted exponent, so that a sum with it is positive.
const EXPONENT_OFFSET: i32 = 8192;

/// A number as it was stored.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Number {
    Int(i64),
    Double(f64),
    Decimal(Decimal),
}

/// A finite Decimal128: `±coefficient × 10^exponent`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Decimal {
    negative: bool,
    coefficient: u128,
    exponent: i32,
}

impl Number {
    /// The number in `value`, if it is one. Infinite and undefined decimals
    /// become the double of that meaning.
    pub(crate) fn of(value: Value<'_>) -> Option<Self> {
        Some(match value.kind {
            Kind::Int32 => Number::Int(value.as_i32().into()),
            Kind::Int64 => Number::Int(value.as_i64()),
            Kind::Double => Number::Double(value.as_f64()),
            Kind::Decimal128 => parse_decimal(value.bytes),
            _ => return None,
        })
    }

    pub(crate) fn is_nan(self) -> bool {
        matches!(self, Number::Double(double) if double.is_nan())
    }

    pub(crate) fn is_finite(self) -> bool {
        !matches!(self, Number::Double(double) if !double.is_finite())
    }

    pub(crate) fn is_zero(self) -> bool {
        match self {
            Number::Int(int) => int == 0,
            Number::Double(double) => double == 0.0,
            Number::Decimal(decimal) => decimal.coefficient == 0,
        }
    }

    /// The number as an integer, if it is one that fits.
    pub(crate) fn as_exact_i64(self) -> Option<i64> {
        match self {
            Number::Int(int) => Some(int),
            Number::Double(double) => exact_i64(double),
            Number::Decimal(decimal) => exact_i64(decimal.nearest())
                .filter(|int| compare(Number::Int(*int), self) == Ordering::Equal),
        }
    }

    /// The number as an integer, cut towards zero; none when it does not fit.
    pub(crate) fn truncated(self) -> Option<i64> {
        match self {
            Number::Int(int) => Some(int),
            Number::Double(double) => exact_i64(double.trunc()),
            Number::Decimal(decimal) => exact_i64(decimal.nearest().trunc()),
        }
    }

    /// Whether this is a whole multiple of `divisor`, as MongoDB reckons it: in
    /// decimals, a double counting with its first 15 digits, so that 0.3 is a
    /// multiple of 0.1. What is not finite is no multiple of anything.
    pub(crate) fn is_multiple_of(self, divisor: Self) -> bool {
        match (self.to_decimal(), divisor.to_decimal()) {
            (Some(number), Some(divisor)) => number.is_multiple_of(divisor),
            _ => false,
        }
    }

    /// The number as a decimal of at most 15 digits for doubles, none when it is
    /// not finite.
    fn to_decimal(self) -> Option<Decimal> {
        match self {
            Number::Int(int) => Some(int.into()),
            Number::Decimal(decimal) => Some(decimal),
            Number::Double(double) => {
                let text = format!("{:.14e}", double.abs());
                let (mantissa, exponent) = text.split_once('e')?;
                let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
                Some(Decimal {
                    negative: double.is_sign_negative(),
                    coefficient: digits.parse().ok()?,
                    exponent: exponent.parse::<i32>().ok()? - 14,
                })
            }
        }
    }

    /// The nearest double.
    pub(crate) fn to_f64(self) -> f64 {
        match self {
            Number::Int(int) => int as f64,
            Number::Double(double) => double,
            Number::Decimal(decimal) => decimal.nearest(),
        }
    }

    /// Appends bytes that sort as the numbers do. Self-delimiting.
    pub(crate) fn encode(self, out: &mut Vec<u8>) {
        let nearest = self.to_f64();
        out.extend_from_slice(&ordered_bits(nearest));
        let (residual, exact) = match self {
            Number::Double(_) => (Ordering::Equal, None),
            Number::Int(int) => (
                i128::from(int).cmp(&(nearest as i128)),
                Some(Decimal::from(int)),
            ),
            Number::Decimal(decimal) => (decimal.cmp_exact(nearest), Some(decimal)),
        };
        match (residual, exact) {
            (Ordering::Less, Some(exact)) => {
                out.push(0x40);
                exact.encode(out);
            }
            (Ordering::Greater, Some(exact)) => {
                out.push(0xC0);
                exact.encode(out);
            }
            _ => out.push(0x80),
        }
    }
}

/// MongoDB's order of numbers: NaN is lowest and equal to itself, −0 equals 0.
pub(crate) fn compare(a: Number, b: Number) -> Ordering {
    match (a, b) {
        (Number::Int(a), Number::Int(b)) => a.cmp(&b),
        (Number::Double(a), Number::Double(b)) => compare_doubles(a, b),
        (Number::Int(a), Number::Double(b)) => compare_int_double(a, b),
        (Number::Double(a), Number::Int(b)) => compare_int_double(b, a).reverse(),
        // Decimals are rare: one exact definition of their order, in the key
        // encoding, is worth more than a second, faster one.
        (a, b) => {
            let (mut left, mut right) = (Vec::with_capacity(32), Vec::with_capacity(32));
            a.encode(&mut left);
            b.encode(&mut right);
            left.cmp(&right)
        }
    }
}

fn compare_doubles(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b)
        .unwrap_or_else(|| b.is_nan().cmp(&a.is_nan()))
}

fn compare_int_double(int: i64, double: f64) -> Ordering {
    const TWO_63: f64 = 9_223_372_036_854_775_808.0;
    if double.is_nan() {
        Ordering::Greater
    } else if double >= TWO_63 {
        Ordering::Less
    } else if double < -TWO_63 {
        Ordering::Greater
    } else {
        let whole = double.trunc();
        int.cmp(&(whole as i64))
            .then_with(|| compare_doubles(whole, double))
    }
}

fn exact_i64(double: f64) -> Option<i64> {
    const TWO_63: f64 = 9_223_372_036_854_775_808.0;
    let fits = double.trunc() == double && (-TWO_63..TWO_63).contains(&double);
    fits.then_some(double as i64)
}

/// A double's bits, flipped so that they sort as unsigned bytes.
fn ordered_bits(double: f64) -> [u8; 8] {
    if double.is_nan() {
        return [0; 8];
    }
    // Adding zero turns −0 into 0.
    let bits = (double + 0.0).to_bits();
    let flipped = if bits >> 63 == 1 {
        !bits
    } else {
        bits | 1 << 63
    };
    flipped.to_be_bytes()
}

/// Reads the binary integer decimal encoding of IEEE 754-2008.
fn parse_decimal(bytes: &[u8]) -> Number {
    let bits = u128::from_le_bytes(bytes.first_chunk().copied().unwrap_or_default());
    let negative = bits >> 127 == 1;
    if bits >> 122 & 0b11111 == 0b11110 {
        return Number::Double(if negative {
            f64::NEG_INFINITY
        } else {
            f64::INFINITY
        });
    }
    if bits >> 122 & 0b11111 == 0b11111 {
        return Number::Double(f64::NAN);
    }
    // The second form can only hold coefficients beyond 34 digits, which the
    // standard reads as zero, as it does such coefficients in the first form.
    let (exponent, coefficient) = if bits >> 125 & 0b11 == 0b11 {
        (bits >> 111 & 0x3FFF, 0)
    } else {
        (bits >> 113 & 0x3FFF, bits & ((1 << 113) - 1))
    };
    let coefficient = if coefficient < 10_u128.pow(DECIMAL_DIGITS) {
        coefficient
    } else {
        0
    };
    Number::Decimal(Decimal {
        negative,
        coefficient,
        exponent: i32::try_from(exponent).unwrap_or_default() - DECIMAL_BIAS,
    })
}

impl From<i64> for Decimal {
    fn from(int: i64) -> Self {
        Decimal {
            negative: int < 0,
            coefficient: int.unsigned_abs().into(),
            exponent: 0,
        }
    }
}

impl Decimal {
    /// Decimal digits of the coefficient, and the exponent of the first one.
    fn digits(self) -> (String, i32) {
        let digits = self.coefficient.to_string();
        let adjusted = self.exponent + i32::try_from(digits.len()).unwrap_or_default() - 1;
        (digits, adjusted)
    }

    /// Whether the division leaves nothing, exactly.
    fn is_multiple_of(self, divisor: Self) -> bool {
        let (a, b) = (self.coefficient, divisor.coefficient);
        if a == 0 || b == 0 {
            return a == 0 && b != 0;
        }
        match u32::try_from(divisor.exponent - self.exponent) {
            // Of a divisor that does not fit into 128 bits `a` is no multiple.
            Ok(shift) => 10_u128
                .checked_pow(shift)
                .and_then(|power| b.checked_mul(power))
                .is_some_and(|divisor| a % divisor == 0),
            Err(_) => {
                let mut rest = a % b;
                for _ in divisor.exponent..self.exponent {
                    if rest == 0 {
                        break;
                    }
                    // Below 10^34 × 10, which fits.
                    rest = rest * 10 % b;
                }
                rest == 0
            }
        }
    }

    /// The nearest double, correctly rounded.
    fn nearest(self) -> f64 {
        let sign = if self.negative { "-" } else { "" };
        // The standard library's parser rounds exactly and knows overflow.
        format!("{sign}{}e{}", self.coefficient, self.exponent)
            .parse()
            .unwrap_or(f64::NAN)
    }

    /// Compares with the double that is nearest, without rounding.
    fn cmp_exact(self, double: f64) -> Ordering {
        let magnitude = if self.coefficient == 0 {
            Ordering::Equal
        } else if double == 0.0 {
            Ordering::Greater
        } else if double.is_infinite() {
            Ordering::Less
        } else {
            // 767 significant digits write any double exactly.
            let exact = format!("{:.800e}", double.abs());
            let (mantissa, exponent) = exact.split_once('e').unwrap_or((&exact, "0"));
            let theirs: String = mantissa.chars().filter(char::is_ascii_digit).collect();
            let (ours, adjusted) = self.digits();
            adjusted
                .cmp(&exponent.parse().unwrap_or_default())
                .then_with(|| ours.trim_end_matches('0').cmp(theirs.trim_end_matches('0')))
        };
        if self.negative {
            magnitude.reverse()
        } else {
            magnitude
        }
    }

    /// Appends bytes that sort as decimals of one sign do.
    fn encode(self, out: &mut Vec<u8>) {
        let (digits, adjusted) = self.digits();
        let missing =
            DECIMAL_DIGITS.saturating_sub(u32::try_from(digits.len()).unwrap_or(DECIMAL_DIGITS));
        let scaled = self.coefficient.saturating_mul(10_u128.pow(missing));
        let exponent = u16::try_from(adjusted + EXPONENT_OFFSET).unwrap_or_default();
        let start = out.len();
        out.extend_from_slice(&exponent.to_be_bytes());
        out.extend_from_slice(&scaled.to_be_bytes());
        if self.negative {
            for byte in out.iter_mut().skip(start) {
                *byte = !*byte;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::OwnedValue;
    use bson::Bson;

    fn decimal(text: &str) -> Bson {
        Bson::Decimal128(text.parse().unwrap())
    }

    fn number(value: &Bson) -> Number {
        Number::of(OwnedValue::encode(value).unwrap().get()).unwrap()
    }

    /// Every number is below the next, in both the comparison and the bytes.
    #[test]
    fn numbers_of_all_types_stand_on_one_line() {
        let line: Vec<Vec<Bson>> = vec![
            vec![Bson::Double(f64::NAN), decimal("NaN")],
            vec![Bson::Double(f64::NEG_INFINITY), decimal("-Infinity")],
            vec![decimal("-9E+6000")],
            vec![Bson::Double(f64::MIN)],
            vec![Bson::Int64(i64::MIN), Bson::Double(-9223372036854775808.0)],
            vec![Bson::Int64(i64::MIN + 1)],
            vec![Bson::Int64(-9007199254740993)],
            vec![
                Bson::Double(-9007199254740992.0),
                Bson::Int64(-9007199254740992),
            ],
            vec![Bson::Double(-1.5), decimal("-1.5")],
            vec![
                Bson::Int32(-1),
                Bson::Int64(-1),
                Bson::Double(-1.0),
                decimal("-1.000"),
            ],
            vec![decimal("-1E-6000")],
            vec![
                Bson::Int32(0),
                Bson::Double(-0.0),
                Bson::Double(0.0),
                decimal("0"),
                decimal("-0E+10"),
            ],
            vec![decimal("1E-6000")],
            vec![decimal("2E-6000")],
            vec![Bson::Double(f64::from_bits(1))],
            vec![decimal("0.1")],
            vec![Bson::Double(0.1)],
            vec![Bson::Int32(1), decimal("1.00")],
            vec![
                Bson::Int64(9007199254740992),
                Bson::Double(9007199254740992.0),
            ],
            vec![decimal("9007199254740992.5")],
            vec![Bson::Int64(9007199254740993), decimal("9007199254740993")],
            vec![Bson::Int64(i64::MAX), decimal("9223372036854775807")],
            vec![decimal("9223372036854775807.5")],
            vec![
                Bson::Double(9223372036854775808.0),
                decimal("9223372036854775808"),
            ],
            vec![Bson::Double(f64::MAX)],
            vec![decimal("9.999E+6000")],
            vec![Bson::Double(f64::INFINITY), decimal("Infinity")],
        ];
        for (i, equal) in line.iter().enumerate() {
            for (j, other) in line.iter().enumerate() {
                for a in equal {
                    for b in other {
                        let expected = i.cmp(&j);
                        let (x, y) = (number(a), number(b));
                        assert_eq!(compare(x, y), expected, "{a:?} and {b:?}");
                        let (mut left, mut right) = (Vec::new(), Vec::new());
                        x.encode(&mut left);
                        y.encode(&mut right);
                        assert_eq!(left.cmp(&right), expected, "bytes of {a:?} and {b:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn integers_are_recognised_in_every_type() {
        assert_eq!(number(&Bson::Double(3.0)).as_exact_i64(), Some(3));
        assert_eq!(number(&Bson::Double(3.5)).as_exact_i64(), None);
        assert_eq!(number(&Bson::Double(3.5)).truncated(), Some(3));
        assert_eq!(number(&decimal("4.0")).as_exact_i64(), Some(4));
        assert_eq!(number(&decimal("4.1")).as_exact_i64(), None);
        assert_eq!(number(&Bson::Double(1e300)).truncated(), None);
    }
}
