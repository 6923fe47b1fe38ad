// The one thing the loader takes from CryptoKit. Source: FIPS 180-4, sections 4.2.2, 5.3.3 and 6.2.2.
import Foundation

public enum SHA256 {
    private static let primes = (2...311).filter { n in !(2..<n).contains { n % $0 == 0 } }.map(Double.init)

    private static func fraction(_ x: Double) -> UInt32 { UInt32((x - x.rounded(.down)) * 0x1p32) }

    private static func rotate(_ x: UInt32, _ n: UInt32) -> UInt32 { x >> n | x << (32 - n) }

    public static func hash(data: Data) -> [UInt8] {
        let k = primes.map { fraction(cbrt($0)) }
        var h = primes.prefix(8).map { fraction($0.squareRoot()) }
        var message = [UInt8](data) + [0x80]
        message += [UInt8](repeating: 0, count: (120 - message.count % 64) % 64)
        message += withUnsafeBytes(of: UInt64(data.count * 8).bigEndian, Array.init)
        var w = [UInt32](repeating: 0, count: 64)
        for block in stride(from: 0, to: message.count, by: 64) {
            for t in 0..<16 {
                w[t] = message[(block + 4 * t)..<(block + 4 * t + 4)].reduce(0) { $0 << 8 | UInt32($1) }
            }
            for t in 16..<64 {
                let s0 = rotate(w[t - 15], 7) ^ rotate(w[t - 15], 18) ^ w[t - 15] >> 3
                let s1 = rotate(w[t - 2], 17) ^ rotate(w[t - 2], 19) ^ w[t - 2] >> 10
                w[t] = w[t - 16] &+ s0 &+ w[t - 7] &+ s1
            }
            var (a, b, c, d, e, f, g, i) = (h[0], h[1], h[2], h[3], h[4], h[5], h[6], h[7])
            for t in 0..<64 {
                let s1 = rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)
                let one = i &+ s1 &+ (e & f ^ ~e & g) &+ k[t] &+ w[t]
                let s0 = rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)
                let two = s0 &+ (a & b ^ a & c ^ b & c)
                (i, g, f, e, d, c, b, a) = (g, f, e, d &+ one, c, b, a, one &+ two)
            }
            h = zip(h, [a, b, c, d, e, f, g, i]).map { $0 &+ $1 }
        }
        return h.flatMap { word in withUnsafeBytes(of: word.bigEndian, Array.init) }
    }
}
