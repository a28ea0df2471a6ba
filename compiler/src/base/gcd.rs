//! Common divisors.

use std::ops::Rem;

/// The greatest common divisor of two integers, up to its sign; that of 0 and a number is the number.
pub fn gcd<T: Copy + Default + PartialEq + Rem<Output = T>>(a: T, b: T) -> T {
    if b == T::default() { a } else { gcd(b, a % b) }
}
