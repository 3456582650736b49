// The users service as it was: NestJS on NATS. `users.rs` beside it is what replaces it.
import 'reflect-metadata';
import { CanActivate, Controller, ExecutionContext, Inject, Injectable, Module, UseGuards } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { JwtModule, JwtService } from '@nestjs/jwt';
import { Ctx, EventPattern, MessagePattern, NatsContext, Payload, RpcException, Transport } from '@nestjs/microservices';
import { from } from 'rxjs';

type Claims = { sub: string; roles: string[] };
const refuse = (status: number, code: string, message: string) => new RpcException({ status, code, message });

@Injectable()
class JwtGuard implements CanActivate {
  constructor(@Inject(JwtService) private readonly jwt: JwtService) {}

  canActivate(context: ExecutionContext) {
    const nats = context.switchToRpc().getContext<NatsContext & { claims?: Claims }>();
    const [scheme, token] = (nats.getHeaders()?.get('authorization') ?? '').split(' ');
    try {
      if (scheme !== 'Bearer') throw new Error('no bearer token');
      nats.claims = this.jwt.verify<Claims>(token, { algorithms: ['HS256'] });
    } catch {
      throw refuse(401, 'UNAUTHENTICATED', 'unauthenticated');
    }
    return true;
  }
}

@Controller()
class UsersController {
  private readonly users = new Map([['ada', { id: 'ada', name: 'Ada' }], ['bob', { id: 'bob', name: 'Bob' }]]);
  private readonly visits = new Map<string, number>();

  @UseGuards(JwtGuard)
  @MessagePattern('get_user_profile')
  profile(@Payload('userId') userId: string, @Ctx() { claims }: { claims: Claims }) {
    return this.own(userId, claims);
  }

  @UseGuards(JwtGuard)
  @MessagePattern('update_user_profile')
  rename(@Payload() { userId, name }: { userId: string; name: unknown }, @Ctx() { claims }: { claims: Claims }) {
    const user = this.own(userId, claims);
    if (typeof name !== 'string' || name === '') throw refuse(400, 'INVALID_ARGUMENT', 'a name is a text that is not empty');
    user.name = name;
    return user;
  }

  @UseGuards(JwtGuard)
  @MessagePattern({ cmd: 'list_users' })
  list(@Ctx() { claims }: { claims: Claims }) {
    if (!claims.roles.includes('admin')) throw refuse(403, 'PERMISSION_DENIED', 'the caller lacks a role that this needs');
    return [...this.users.values()];
  }

  @UseGuards(JwtGuard)
  @MessagePattern('user_history')
  history(@Payload('userId') userId: string, @Ctx() { claims }: { claims: Claims }) {
    const { id } = this.own(userId, claims);
    return from([`${id} was created`, `${id} logged in`, `${id} logged out`]);
  }

  @UseGuards(JwtGuard)
  @MessagePattern('count_visits')
  count(@Payload('userId') userId: string) {
    return { visits: this.visits.get(userId) ?? 0 };
  }

  @EventPattern('user.visited')
  visited(@Payload('userId') userId: string) {
    this.visits.set(userId, (this.visits.get(userId) ?? 0) + 1);
  }

  private own(userId: string, claims: Claims) {
    if (claims.sub !== userId) throw refuse(403, 'PERMISSION_DENIED', 'not your profile');
    const user = this.users.get(userId);
    if (!user) throw refuse(404, 'NOT_FOUND', 'no such user');
    return user;
  }
}

@Module({
  imports: [JwtModule.register({ secret: process.env.JWT_SECRET })],
  controllers: [UsersController],
  providers: [JwtGuard],
})
class UsersModule {}

const app = await NestFactory.createMicroservice(UsersModule, {
  transport: Transport.NATS,
  logger: false,
  options: { servers: [process.env.NATS_URL!], queue: 'users' },
});
await app.listen();
console.log('READY');
