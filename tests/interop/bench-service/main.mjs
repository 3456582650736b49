// Minimal Nest microservice for the baseline: echo (no guard) and secure.echo (guard verifies HS256 JWT from the `authorization` header).
// env NATS_URL QUEUE JWT_SECRET KEYOBJECT=1 (secret as crypto.KeyObject: avoids jsonwebtoken's failed createPublicKey per verify)
import 'reflect-metadata';
import { NestFactory } from '@nestjs/core';
import { Controller, Module, Injectable, UseGuards } from '@nestjs/common';
import { MessagePattern, Payload, Ctx, Transport } from '@nestjs/microservices';
import { JwtModule, JwtService } from '@nestjs/jwt';
import { createSecretKey } from 'node:crypto';
const SECRET = process.env.JWT_SECRET || 'dev-secret-dev-secret-dev-secret-32';
class JwtGuard {
  constructor(jwt) { this.jwt = jwt; }
  async canActivate(ec) {
    const ctx = ec.switchToRpc().getContext();
    const raw = ctx.getHeaders()?.get('authorization');
    if (!raw?.startsWith('Bearer ')) return false;
    try { ctx.user = await this.jwt.verifyAsync(raw.slice(7), { algorithms: ['HS256'] }); return true; } catch { return false; }
  }
}
Reflect.defineMetadata('design:paramtypes', [JwtService], JwtGuard); Injectable()(JwtGuard);
class C { echo(d) { return d; } secure(d) { return d; } secureUser(d, ctx) { return { userId: ctx.user.sub, email: ctx.user.email }; } }
const P = C.prototype, D = (m, ...x) => x.forEach(d => d(P, m, Object.getOwnPropertyDescriptor(P, m)));
for (const [m, p] of [['echo', 'echo'], ['secure', 'secure.echo'], ['secureUser', 'secure.profile']]) { Payload()(P, m, 0); if (m === 'secureUser') Ctx()(P, m, 1); D(m, MessagePattern(p)); if (m !== 'echo') D(m, UseGuards(JwtGuard)); }
Controller()(C);
class M {} Module({ imports: [JwtModule.register({ secret: process.env.KEYOBJECT ? createSecretKey(Buffer.from(SECRET)) : SECRET })], controllers: [C], providers: [JwtGuard] })(M);
const app = await NestFactory.createMicroservice(M, { transport: Transport.NATS, logger: false, options: { servers: [process.env.NATS_URL || 'nats://127.0.0.1:4222'], ...(process.env.QUEUE ? { queue: process.env.QUEUE } : {}) } });
await app.listen(); console.log('READY');
// It ends with the program that started it.
process.stdin.on('end', () => process.exit()).resume();
